import json

import pytest
import torch

from lorweb.kontext import flow
from lorweb.training.dataset import Triple
from lorweb.training.sampler import slot_view
from lorweb.training.step import Noised, NonFiniteError, predict, take_step
from tests.training.made import equal, make_run, train_section, weights, write_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def viewed(tmp_path_factory):
    """The same with two random views of every image."""
    return write_data(tmp_path_factory.mktemp("viewed"), views=2)


def test_every_variant_starts_from_the_bare_base(folders):
    first = [take_step(make_run(folders, train_section(), name), 0).loss for name in ("lorweb", "single_lora")]
    assert first[0] == first[1]


@pytest.mark.parametrize("data", ["folders", "viewed"])
def test_the_loss_is_equation_one(data, request):
    """By hand from the parts: the bare base on z_t = (1 - t) x0 + t x1, weighted, mean over the batch."""
    run = make_run(request.getfixturevalue(data), train_section())
    drawn = run.sampler.batch(0)
    views = [slot_view(run.sampler.seed, 0, d.slot, run.encoded.views) for d in drawn]
    assert any(views) == (data == "viewed")
    batch = run.encoded.grid_batch(
        [Triple(d.exemplar, d.query, d.instruction, view) for d, view in zip(drawn, views, strict=True)]
    )
    x1 = flow.draw_noise(tuple(batch.x0_BCHW.shape[1:]), 0, 0, [0, 1, 2, 3])
    t_B = flow.draw_timesteps("uniform", 0, 0, [0, 1, 2, 3])
    with torch.no_grad():
        v = predict(run.variant, batch, Noised(x1, t_B), 1.0)
    by_hand = sum(
        float(flow.weigh("bell", t_B[i : i + 1])) * float(((v[i] - (x1[i] - batch.x0_BCHW[i])) ** 2).mean())
        for i in range(4)
    )
    assert take_step(run, 0).loss == pytest.approx(by_hand / 4, rel=1e-5)


def test_only_the_adapters_change(folders):
    run = make_run(folders, train_section())
    frozen = {n: p.detach().clone() for n, p in run.variant.transformer.named_parameters() if not p.requires_grad}
    before = weights(run)
    for step in range(2):
        take_step(run, step)
    assert frozen and all(
        torch.equal(dict(run.variant.transformer.named_parameters())[n], p) for n, p in frozen.items()
    )
    after = weights(run)
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_the_router_gets_its_first_gradient_once_B_is_trained(folders):
    run = make_run(folders, train_section())
    norms = [take_step(run, step).router_gradient_norm for step in range(2)]
    assert norms[0] == 0.0 and norms[1] > 0.0


def test_gradient_checkpointing_changes_nothing_but_memory(folders):
    plain, saving = (make_run(folders, train_section()) for _ in range(2))
    saving.variant.transformer.enable_gradient_checkpointing()
    for step in range(3):
        assert take_step(plain, step).loss == pytest.approx(take_step(saving, step).loss, rel=1e-6)
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(plain).values(), weights(saving).values(), strict=True)
    )


def test_clipping_bounds_the_gradient(folders):
    section = train_section()
    tight = section.model_copy(update={"optimizer": section.optimizer.model_copy(update={"max_grad_norm": 1e-3})})
    run = make_run(folders, tight)
    assert take_step(run, 0).gradient_norm > 1e-3  # told before clipping
    total = torch.nn.utils.get_total_norm([p.grad for p in run.variant.parameters.values()])
    assert float(total) == pytest.approx(1e-3, rel=1e-3)


def test_a_nan_stops_the_run_before_the_update_and_names_the_analogies(folders, tmp_path):
    run = make_run(folders, train_section(), work=tmp_path)
    take_step(run, 0)
    drawn = run.sampler.batch(1)
    before, moments = weights(run), len(run.optimizer.state)
    run.encoded.latents_MChw[run.encoded.pairs[drawn[2].query][1], 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="the weights were not changed") as caught:
        take_step(run, 1)
    assert f"{drawn[2].exemplar}>{drawn[2].query}" in str(caught.value)
    assert equal(before, weights(run)) and moments == len(run.optimizer.state)
    report = json.loads((tmp_path / "nonfinite-step-00000001-rank-0.json").read_text())
    assert [row["id"] for row in report["rows"]] == [f"{d.exemplar}>{d.query}" for d in drawn]
    assert report["rows"][2]["loss"] == "nan"
