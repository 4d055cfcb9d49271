"""The model of scale: formulas and simulation agree where nothing is in the way, and the page says what they say."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmark_cases import FOLDER, module, put_on_the_path

ROOT = FOLDER.parent
PAGE = ROOT / "docs" / "scale.md"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)


def costly(model):
    """An engine and a store that cost something everywhere."""
    engine = model.Engine(
        ray_s=5, first_s=2, next_s=0.5, item_s=1e-4, task_s=0.01, turn_s=0.02, batch_s=0.005, file_s=1e-3, row_s=1e-5
    )
    return engine, model.Store(bandwidth=1e9, streams=4, latency=0.01)


@settings(max_examples=40)
@given(st.integers(1, 2000), st.integers(1, 64), st.floats(0, 0.5), st.booleans())
def test_one_actor_takes_what_the_formula_says(rows, batch, worker_s, moves):
    model, simulation = module("_scale_model"), module("_scale_simulation")
    size = 1e6 if moves else 0.0
    function = model.Function(rows, batch, actors=1, worker_s=worker_s, read=size, written=2 * size)
    free = simulation.simulate(function, model.Engine(), model.Store())
    assert free.spent.seconds == pytest.approx(rows * worker_s)
    engine, store = costly(model)
    formula, run = model.closed(function, engine, store), simulation.simulate(function, engine, store)
    assert run.batches == math.ceil(rows / batch)
    for part in ("todo", "start", "end"):
        assert getattr(run.spent, part) == pytest.approx(getattr(formula, part))
    if formula.bound == "actors":
        assert run.spent.working == pytest.approx(formula.working)


@settings(max_examples=40)
@given(st.integers(1, 1500), st.integers(1, 32), st.integers(1, 24), st.floats(0.001, 0.5))
def test_more_actors_are_never_slower(rows, batch, actors, worker_s):
    """But for a block that is cut otherwise, and where neither their start nor the blocks cost the driver."""
    model, simulation = module("_scale_model"), module("_scale_simulation")
    engine, store = costly(model)
    engine = replace(engine, next_s=0.0, task_s=0.0)
    few, more = (
        simulation.simulate(model.Function(rows, batch, count, worker_s, read=1e5, written=1e5), engine, store)
        for count in (actors, 2 * actors)
    )
    function = model.Function(rows, batch, actors, worker_s)
    block = max(function.block_sizes()) * (batch * (worker_s + 4e-4) + 0.1)
    assert more.spent.working <= few.spent.working + 2 * block


def test_too_many_actors_are_bound_by_the_driver():
    """Ray hands out 64 blocks for each actor: with little work for many of them, that is what takes the time."""
    model, simulation = module("_scale_model"), module("_scale_simulation")
    engine = model.Engine(task_s=0.02)
    few, many = (model.Function(5000, 1, count, worker_s=0.05) for count in (4, 64))
    assert [model.closed(function, engine, model.Store()).bound for function in (few, many)] == ["actors", "driver"]
    run = simulation.simulate(many, engine, model.Store())
    assert run.spent.working == pytest.approx(many.blocks * engine.task_s, rel=0.02)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(1, 1000), st.integers(1, 16), st.integers(1, 8), st.floats(2, 60), st.integers(0, 9))
def test_deaths_lose_no_row_and_cost_time(rows, batch, actors, life_s, seed):
    model, simulation = module("_scale_model"), module("_scale_simulation")
    function = model.Function(rows, batch, actors, worker_s=0.05)
    engine, store = costly(model)
    deaths = simulation.Deaths(life_s + batch * 0.05, restart_s=3.0, seed=seed)
    calm, harmed = (simulation.simulate(function, engine, store, how) for how in (None, deaths))
    assert harmed.batches == calm.batches == function.batches
    assert harmed.busy == pytest.approx(rows * 0.05)
    assert harmed.repeated <= harmed.died
    block = max(function.block_sizes()) * (batch * 0.05 + 0.1)
    assert harmed.spent.working >= calm.spent.working - block


@given(st.integers(1, 100_000), st.integers(1, 64), st.integers(1, 200))
def test_blocks_hold_every_batch_once(rows, batch, actors):
    model = module("_scale_model")
    function = model.Function(rows, batch, actors, 0.1)
    sizes = function.block_sizes()
    assert sum(sizes) == function.batches and len(sizes) == function.blocks
    assert max(sizes) - min(sizes) <= 1


def test_coarse_events_change_little():
    model, simulation = module("_scale_model"), module("_scale_simulation")
    engine, store = costly(model)
    function = model.Function(40_000, 8, 6, 0.05, read=1e6, written=1e6)
    fine, coarse = (simulation.simulate(function, engine, store, grain=grain).spent.working for grain in (1, 5))
    assert coarse == pytest.approx(fine, rel=0.02)


def test_a_shared_store_bounds_what_actors_could_do():
    model, simulation = module("_scale_model"), module("_scale_simulation")
    store = model.Store(bandwidth=1e6, streams=2)
    function = model.Function(800, 8, 20, worker_s=0.001, read=1e5)
    formula, run = model.closed(function, model.Engine(), store), simulation.simulate(function, model.Engine(), store)
    assert formula.bound == "store" and formula.working == pytest.approx(80)
    assert run.spent.working == pytest.approx(80, rel=0.02)


def test_the_page_shows_what_the_script_prints():
    scale = module("scale")
    page = PAGE.read_text(encoding="utf-8")
    for name, text in scale.page(scale.read("costs"), scale.Assumed()).items():
        found = page.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].strip()
        assert found == text, f"docs/scale.md, {name}: run `python benchmarks/scale.py --into docs/scale.md`"


@pytest.mark.slow
def test_the_simulated_results_are_of_these_costs():
    scale, limits = module("scale"), module("_scale_limits")
    costs = scale.read("costs")
    kept = [row for row in scale.read("simulated") if row["pairs"] <= 10**5]
    again = [
        row
        for graph in scale.graphs(costs, scale.Assumed())[:2]
        for row in limits.simulated(graph, limits.engine_of(costs, scale.Assumed()))
    ]
    assert len(again) == len(kept) == 2 * len({row["function"] for row in kept})
    for new, old in zip(again, kept, strict=True):
        assert new == pytest.approx(old), "run `python benchmarks/scale.py --simulate`"


@pytest.mark.slow
def test_assumptions_are_options(capsys):
    scale = module("scale")
    scale.main(["--gpu-usd", "5"])
    dear = capsys.readouterr().out
    scale.main([])
    usual = capsys.readouterr().out
    line = next(line for line in usual.splitlines() if line.startswith("| GPUs |"))
    twice = next(line for line in dear.splitlines() if line.startswith("| GPUs |"))
    first, second = (float(cell.split("|")[2].replace(",", "")) for cell in (line, twice))
    assert second == pytest.approx(2 * first, rel=0.01)


@pytest.mark.slow
def test_what_models_take_is_counted_alike():
    scale, light = module("scale"), module("_scale_light")
    params = scale.load_profile(ROOT, "paper")
    assert light.as_json(light.count(params, "h100", 0.3)) == pytest.approx(scale.read("costs")["light"])


@pytest.mark.slow
def test_a_driver_is_measured_with_workers_that_answer_from_a_table(tmp_path: Path):
    driver = module("_scale_driver")
    driver.project(tmp_path, 1200)
    import subprocess
    import sys

    for stage in driver.STAGES:
        command = [sys.executable, driver.__file__, stage]
        done = subprocess.run(
            command, cwd=tmp_path, env=driver.stages.environment(), check=True, capture_output=True, text=True
        )
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["rows"] >= 500 and told["seconds"] > told["busy"] >= 0 and told["peak_bytes"] > 1e7
