"""Health of the basis while it trains: the figures of `lorweb.basis.health`, gradient norms by part, and alarms."""

import contextlib
import math
import warnings

import pytest
import torch

from lorweb.basis import basis_layers, router_of
from lorweb.basis.health import atom_gram
from lorweb.basis.mix_health import atom_norms
from lorweb.training.health import Alarm, alarms, basis_health, bounds_of, first_alarms, router_health
from lorweb.training.limits import Alarms
from lorweb.training.loop import Keeper, train
from lorweb.training.step import take_step
from tests.training.made import held_out, make_run, train_section, write_data
from tests.training.test_loop import Recorder

BOUNDS = {"from_step": 1, "min_entropy": 0.1, "min_variation": 0.02, "max_dead_atoms": 0.5}
ROW = {"entropy": 0.5, "variation": 0.5, "dead_atoms": 0.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def after_steps(folders, count, name="lorweb", **changes):
    run = make_run(folders, train_section(**changes), name)
    return run, [take_step(run, step) for step in range(count)]


@pytest.mark.parametrize("changes", [{}, {"activation": "tanh"}, {"projection": "shared"}])
def test_figures_are_those_of_the_whole_report(folders, changes):
    run, _ = after_steps(folders, 3, basis={**train_section().basis.model_dump(), **changes})
    with torch.no_grad():
        next(iter(basis_layers(run.variant.transformer).values())).B[:, :2] = 0.0  # one atom is dead
    chosen, _ = held_out(folders)
    found, report = router_health(run, chosen), basis_health(run, chosen)
    assert found["entropy"] == pytest.approx(report.entropy) and found["variation"] == pytest.approx(report.variation)
    assert report.dead_atoms >= 1 and found["dead_atoms"] == report.dead_atoms / report.atoms
    assert found["mix_spread"] == report.mix_spread


def test_norms_of_atoms_are_the_diagonal_of_their_gram_matrix(folders):
    run, _ = after_steps(folders, 3)
    for layer in basis_layers(run.variant.transformer).values():
        torch.testing.assert_close(atom_norms(layer), atom_gram(layer).diagonal().clamp_min(0).sqrt())


def test_before_the_first_step_every_atom_is_dead(folders):
    run, _ = after_steps(folders, 0)
    assert router_health(run, held_out(folders)[0])["dead_atoms"] == 1.0


@pytest.mark.parametrize("name", ["lorweb", "single_lora", "basis_constant"])
def test_gradient_norms_of_the_parts_make_up_the_whole(folders, name):
    _, results = after_steps(folders, 3, name)
    for result in results:
        parts = (result.basis_gradient_norm, result.key_gradient_norm, result.projection_gradient_norm)
        assert math.hypot(*parts) == pytest.approx(result.gradient_norm, rel=1e-5)
        assert math.hypot(*parts[1:]) == pytest.approx(result.router_gradient_norm, rel=1e-5)
    last = results[-1]
    assert last.basis_gradient_norm > 0 and (last.projection_gradient_norm > 0) == (name == "lorweb")
    assert (last.key_gradient_norm > 0) == (name != "single_lora")


def test_the_norm_of_the_keys_is_that_of_their_gradient(folders):
    run, _ = after_steps(folders, 1, optimizer={**train_section().optimizer.model_dump(), "max_grad_norm": 1e6})
    norm = take_step(run, 1).key_gradient_norm
    assert norm == pytest.approx(float(router_of(run.variant.transformer).keys.grad.norm()), rel=1e-5)


def test_what_rings():
    bounds = Alarms(**BOUNDS)
    rows = [
        {"step": 0, **ROW, "dead_atoms": 1.0},  # B = 0: too early to say
        {"step": 5, **ROW},
        {"step": 10, **ROW, "variation": 0.01},
        {"step": 15, "entropy": 0.05, "variation": 0.005, "dead_atoms": 0.6},
    ]
    found = alarms(rows, bounds)
    assert [(alarm.step, alarm.name) for alarm in found] == [
        (10, "variation"),
        (15, "entropy"),
        (15, "variation"),
        (15, "dead_atoms"),
    ]
    assert [(a.step, a.name) for a in first_alarms(rows, bounds)] == [
        (10, "variation"),
        (15, "entropy"),
        (15, "dead_atoms"),
    ]
    assert alarms(rows, None) == [] and alarms(rows, bounds.model_copy(update={"from_step": 20})) == []
    silent = Alarms(from_step=1, min_entropy=0.0, min_variation=0.0, max_dead_atoms=1.0)
    assert alarms([{"step": 1, "entropy": 0.0, "variation": 0.0, "dead_atoms": 1.0}], silent) == []


def test_sentences_say_what_where_and_what_to_do():
    low = Alarm(10, "variation", 0.0123, 0.02).sentence
    assert "the same coefficients: variation is 0.0123 after step 10, below the bound 0.02 (train.alarms); raise" in low
    assert "dead_atoms is 0.6 after step 3, above the bound 0.5" in Alarm(3, "dead_atoms", 0.6, 0.5).sentence


def watched(folders, folder, hooks, name="lorweb"):
    """Trained under bounds that a router ends up beyond; what was warned of."""
    section = train_section(alarms={**BOUNDS, "min_variation": 1.0})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(KeyboardInterrupt):
            train(make_run(folders, section, name), held_out(folders), Keeper(folder, {}), hooks)
    return [str(warning.message) for warning in caught if "train.alarms" in str(warning.message)]


@pytest.mark.slow
def test_an_alarm_is_said_once_also_over_a_kill(folders, tmp_path):
    (said,) = watched(folders, tmp_path / "whole", Recorder())
    assert said.startswith("lorweb: the router gives all exemplars nearly the same") and "after step 5" in said
    assert watched(folders, tmp_path / "cut", Recorder(7)) == [said]
    assert watched(folders, tmp_path / "cut", Recorder()) == [], "step 10 rings as well, but it was said"


def test_baselines_ring_no_bell(folders, tmp_path):
    assert watched(folders, tmp_path, Recorder(), "basis_constant") == []
    section = train_section(alarms=BOUNDS)
    assert bounds_of(section, "lorweb") == Alarms(**BOUNDS) and bounds_of(section, "single_lora") is None
