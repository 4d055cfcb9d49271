"""One loop trains all variants on the same analogies, noise and timesteps: seen where they enter the model."""

import pytest
import torch

from lorweb.training import step as step_module
from lorweb.training.loop import Keeper, train
from tests.training.made import held_out, make_run, train_section, write_data
from tests.training.test_loop import Recorder

VARIANTS = ("lorweb", "single_lora", "single_lora_equal", "basis_constant")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def shown(folders, tmp_path, monkeypatch, name):
    """What `predict` was asked, call by call: ids, images, queries, text, noise and timesteps; and the history."""
    calls, predict = [], step_module.predict

    def looking_on(variant, batch, noised, guidance, offload):
        tensors = (batch.x0_BCHW, batch.y_BCHW, batch.query_BQ, batch.text.prompt_BTE, noised.x1_BCHW, noised.t_B)
        calls.append((batch.ids, [tensor.clone() for tensor in tensors]))
        return predict(variant, batch, noised, guidance, offload)

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "predict", looking_on)
        run = make_run(folders, train_section(steps=6, caption_dropout=0.5), name)
        history = train(run, held_out(folders), Keeper(tmp_path / name, {}), Recorder())
    return calls, history


@pytest.mark.slow
def test_every_variant_is_shown_the_same(folders, tmp_path, monkeypatch):
    found = {name: shown(folders, tmp_path, monkeypatch, name) for name in VARIANTS}
    first, _ = found["lorweb"]
    assert len(first) == 6 and len({tuple(ids) for ids, _ in first}) > 3
    for name, (calls, history) in found.items():
        assert [ids for ids, _ in calls] == [ids for ids, _ in first], name
        for (_, tensors), (_, expected) in zip(calls, first, strict=True):
            assert all(torch.equal(*both) for both in zip(tensors, expected, strict=True)), name
        assert history.curves["loss"][0] == found["lorweb"][1].curves["loss"][0], "B = 0: all start from the base"
        assert history.curves["learning_rate"] == found["lorweb"][1].curves["learning_rate"]
    assert len({history.curves["loss"][-1] for _, history in found.values()}) == len(VARIANTS), "and then they part"
