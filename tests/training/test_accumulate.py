"""Micro-batches: the same batch, the same noise, the same step, in pieces."""

import json

import pytest
import torch

from lorweb.training.loop import Keeper, train
from lorweb.training.step import NonFiniteError, micro_batches, take_step
from lorweb.training.validation import validate
from tests.training.made import equal, held_out, make_run, train_section, weights, write_data
from tests.training.test_loop import Recorder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), views=2)


def test_parts_are_in_order_and_differ_by_at_most_one():
    for count in range(1, 8):
        found = micro_batches(range(7), count)
        assert [row for part in found for row in part] == list(range(7)) and len(found) == count
        assert max(map(len, found)) - min(map(len, found)) <= 1 and min(map(len, found)) >= 1


@pytest.mark.parametrize("name", ["lorweb", "single_lora"])
@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_losses_norms_and_weights_are_those_of_one_batch(folders, name, accumulate):
    whole = make_run(folders, train_section(), name)
    parts = make_run(folders, train_section(accumulate=accumulate), name)
    for step in range(3):
        one, other = take_step(whole, step), take_step(parts, step)
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)
        assert other.router_gradient_norm == pytest.approx(one.router_gradient_norm, rel=1e-3, abs=1e-7)
    for key, value in weights(whole).items():
        assert torch.allclose(value, weights(parts)[key], atol=1e-4), key


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_nan_in_one_micro_batch_reports_the_whole_batch_and_changes_nothing(folders, tmp_path, accumulate):
    run = make_run(folders, train_section(accumulate=accumulate, ema=0.9), work=tmp_path)
    take_step(run, 0)
    before, average = weights(run), {name: value.clone() for name, value in run.ema.values.items()}
    moments = {id(p): {k: v.clone() for k, v in slots.items()} for p, slots in run.optimizer.state.items()}
    drawn = run.sampler.batch(1)
    poisoned = [run.encoded.pairs[drawn[0].query], *(run.encoded.viewed[drawn[0].query, view] for view in (1, 2))]
    run.encoded.latents_MChw[[after for _, after in poisoned]] = float("nan")
    with pytest.raises(NonFiniteError, match="the weights were not changed"):
        take_step(run, 1)
    assert equal(before, weights(run)) and equal(average, run.ema.values)
    assert all(
        torch.equal(value, run.optimizer.state[p][slot])
        for p in run.variant.parameters.values()
        for slot, value in moments[id(p)].items()
    )
    rows = json.loads((tmp_path / "nonfinite-step-00000001-rank-0.json").read_text())["rows"]
    assert [row["id"] for row in rows] == [f"{d.exemplar}>{d.query}" for d in drawn]
    assert rows[0]["loss"] == "nan" and any(row["loss"] != "nan" for row in rows)


def test_noise_timesteps_and_rows_belong_to_slots(folders, tmp_path):
    """What the report says of each row is the same, however the batch is cut."""
    told = {}
    for accumulate in (1, 3):
        run = make_run(folders, train_section(accumulate=accumulate), work=tmp_path)
        next(iter(run.variant.router.values())).register_hook(lambda gradient: gradient + float("inf"))
        with pytest.raises(NonFiniteError, match="none on this worker by loss alone"):
            take_step(run, 2)
        told[accumulate] = json.loads((tmp_path / "nonfinite-step-00000002-rank-0.json").read_text())["rows"]
    assert [(row["id"], row["t"]) for row in told[1]] == [(row["id"], row["t"]) for row in told[3]]
    losses = [[float(row["loss"]) for row in told[accumulate]] for accumulate in (1, 3)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(set(losses[0])) == 4


def test_validation_takes_no_more_rows_at_once_than_training(folders):
    sizes = []
    run = make_run(folders, train_section(accumulate=3))
    run.variant.transformer.register_forward_pre_hook(
        lambda _, __, given: sizes.append(len(given["timestep"])), with_kwargs=True
    )
    found = validate(run, held_out(folders)[0])
    assert max(sizes) == 2 == run.config.forward_rows
    assert found == pytest.approx(validate(make_run(folders, train_section()), held_out(folders)[0]), rel=1e-5)


def test_more_micro_batches_than_analogies_are_refused(folders, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="2 workers x 3 micro-batches"):
        train_section(accumulate=3, workers=2)
    monkeypatch.setattr("lorweb.training.reduce.world", lambda: (0, 2))
    run = make_run(folders, train_section(accumulate=3))
    with pytest.raises(ValueError, match="2 workers for a batch of 4, and accumulate 3"):
        train(run, held_out(folders), Keeper(tmp_path, {}), Recorder())
