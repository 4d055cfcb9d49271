"""What the model of scale says is full first, the pools that it asks for, and what it takes to be on disk."""

import math
import re
from dataclasses import replace

import pytest

from tests.benchmark_cases import FOLDER, module, put_on_the_path

ROOT = FOLDER.parent


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)


@pytest.mark.slow
def test_pools_for_a_day_are_the_least_that_do_and_the_simulation_agrees():
    scale, limits, model = module("scale"), module("_scale_limits"), module("_scale_model")
    costs, assumed = scale.read("costs"), scale.Assumed()
    engine, store = limits.engine_of(costs, assumed), limits.store_of(assumed)
    simulated = {(row["pairs"], row["function"]): row for row in scale.read("simulated")}
    raised = 0
    for graph in scale.graphs(costs, assumed):
        for step in graph.steps():
            function = limits.sized(step, assumed, engine)
            assert model.closed(function, engine, store).working <= assumed.hours * 3600
            told = simulated[graph.scale.pairs, f"{step.stage} {step.name}"]
            assert told["actors"] == function.actors and told["simulated_h"] <= assumed.hours
            if function.actors > step.function.actors:
                fewer = replace(function, actors=function.actors - 1)
                assert model.closed(fewer, engine, store).working > assumed.hours * 3600
                raised += 1
    assert raised >= 10


def test_more_actors_are_not_asked_for_where_the_store_is_what_takes_the_time():
    limits, model, rows = module("_scale_limits"), module("_scale_model"), module("_scale_rows")
    assumed = rows.Assumed(bandwidth=1e6)
    function = model.Function(10**6, 8, 1, worker_s=0.1, read=1e6)
    sized = limits.sized(rows.Step("filter", "slow", function, 0, 1), assumed, model.Engine())
    spent = model.closed(sized, model.Engine(), limits.store_of(assumed))
    assert spent.bound == "store" and spent.working > assumed.hours * 3600
    alone = model.Function(8, 8, 1, worker_s=2 * rows.Assumed().hours * 3600 / 8)  # one batch takes two days
    assert limits.sized(rows.Step("filter", "slow", alone, 0, 1), rows.Assumed(), model.Engine()).actors == 2


def test_growth_goes_on_as_it_was_measured():
    growth = module("_scale_growth")
    own = {"row_s": 1e-3, "growth_s": 2.4, "from_rows": 24000, "rows": 48000}  # a row's cost in step with the rows
    known = 36000
    assert growth.exponent(2.4) == pytest.approx(1.0) and growth.exponent(0.9) == growth.exponent(-0.3) == 0
    assert growth.grown(own, known) == pytest.approx(1e-3 * known)
    assert growth.grown(own, 10 * known) == pytest.approx(1e-3 * known * (1 + (100 - 1) / 2))
    further = [growth.grown(own, rows + 1) - growth.grown(own, rows) for rows in (known, 15 * known)]
    assert further[1] / further[0] == pytest.approx(15, rel=1e-3)
    assert growth.grown({**own, "growth_s": 0.9}, 10**7) == pytest.approx(1e4)


def test_the_page_says_where_growth_would_end_a_run():
    scale, limits = module("scale"), module("_scale_limits")
    shares: dict[str, list[tuple[int, float]]] = {}
    for graph in scale.graphs(scale.read("costs"), scale.Assumed()):
        for limit in limits.limits(graph):
            shares.setdefault(limit.name, []).append((graph.scale.pairs, limit.share))
    names = ("rows through the driver, if the measured growth went on", "rows through the driver")
    grown, linear = (f"{limits.reached(shares[name]):.1e}".replace("e+0", "e") for name in names)
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert f"at {grown} pairs instead of {linear}" in page
    load = float(scale.read("costs")["machines"]["driver"].split("load ")[1].split()[0])
    assert "on a machine with nothing else to do" in page and load < 1.5  # the measurement itself is one of them


@pytest.mark.slow
def test_checkpoints_are_on_disk_once_and_never_in_dvc():
    from lorweb.plan.report import Given, make_plan

    scale, limits = module("scale"), module("_scale_limits")
    graph = scale.graphs(scale.read("costs"), scale.Assumed())[0]
    params = graph.params
    plan = make_plan(params.encode.base, params, Given("h100", 0.3, 0, 0))
    variants, weights = 1 + len(params.train.baselines), 4 * plan.model.trained
    assert graph.outs()["train"] == variants * weights
    assert graph.light.work_bytes == variants * (plan.disk["checkpoints"] + weights)
    more = replace(graph.light, work_bytes=graph.light.work_bytes + 10**12)
    before, shards = limits.total_bytes(graph), graph.shards()
    graph.light = more
    assert limits.total_bytes(graph) - before == 10**12 and graph.shards() == shards


def test_everything_grows_with_the_pairs():
    scale, tables = module("scale"), module("_scale_tables")
    small, *_, large = scale.graphs(scale.read("costs"), scale.Assumed())
    kept = small.costs["kept"]["kept"]
    assert small.scale.embedded * kept + small.scale.kontext * 0.7 == pytest.approx(small.scale.pairs, rel=1e-3)
    assert large.driver_bytes() == pytest.approx(1e4 * small.driver_bytes(), rel=0.01)
    assert tables.usd(large, ("generate",)) == pytest.approx(1e4 * tables.usd(small, ("generate",)), rel=0.01)
    assert large.outs()["train"] == small.outs()["train"]


def test_settings_that_move_a_limit_are_parameters():
    scale, limits = module("scale"), module("_scale_limits")
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    named = [
        name
        for limit in limits.limits(scale.graphs(scale.read("costs"), scale.Assumed())[0])
        for name in re.findall(r"`([a-z_.]+)`", limit.setting)
        if name != ".work"
    ]
    assert len(set(named)) >= 10
    for key in {part for name in named for part in name.split(".")}:
        assert re.search(rf"^\s*{key}:|[{{,] ?{key}:", params, re.M), key


def test_a_limit_is_reached_where_its_share_is_one():
    limits = module("_scale_limits")
    assert limits.reached([(10, 0.1), (100, 10.0), (1000, 1000.0)]) == pytest.approx(10**1.5)
    assert limits.reached([(10, 0.01), (100, 0.1)]) == pytest.approx(1000)
    assert limits.reached([(10, 20.0), (100, 200.0)]) == pytest.approx(0.5)
    assert math.isinf(limits.reached([(10, 0.5), (100, 0.5)]))
