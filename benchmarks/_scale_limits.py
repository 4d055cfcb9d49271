"""What saturates: every limit as the share that a scale takes of it, and the setting that moves it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from _scale_model import Engine, Function, Store, closed
from _scale_rows import Assumed, Step
from _scale_simulation import Deaths, simulate
from _scale_stages import Graph

EVENTS: Final = 1  # of a block: a death loses a whole block at most, more than the batch that it would
LIFE_S: Final = 24 * 3600.0  # of an actor on machines that are taken away, on average
RESTART_S: Final = 300.0  # until another machine has taken its place


@dataclass(frozen=True)
class Limit:
    """A resource: `share` of it that a run takes, too much above 1; `setting` is a name of params.yaml."""

    name: str
    share: float
    setting: str


def limits(graph: Graph) -> list[Limit]:
    """All limits of the profile as it is, whatever the scale."""
    return [*_of_pools(graph), *_of_training(graph), *_of_driver(graph), *_of_storage(graph)]


def _of_pools(graph: Graph) -> list[Limit]:
    seconds = graph.assumed.hours * 3600
    return [
        Limit(
            "the editor's GPUs",
            _worked(graph, "generate kontext") / seconds,
            "`pool.actors` of kontext in `generate.editors`",
        ),
        Limit(
            "cores of the embedded scorer and editor",
            _worked(graph, "filter embedded", "generate embedded") / seconds,
            "`pool.actors` of embedded in `filter.scorers` and `generate.editors`",
        ),
        Limit(
            "GPUs of scorers and of encoding",
            _worked(graph, "filter clip", "filter dino", "encode images") / seconds,
            "`pool.actors` of clip and dino in `filter.scorers`, and in `encode.pool`",
        ),
    ]


def _of_training(graph: Graph) -> list[Limit]:
    scale, params = graph.scale, graph.params
    drawn = params.train.steps * params.train.batch_size
    return [
        Limit(
            "pairs of a task that training takes",
            scale.pairs / (scale.tasks * params.assemble.max_pairs_per_task),
            "`assemble.max_pairs_per_task`, or more tasks: `generate.instructions`",
        ),
        Limit("pairs that are ever drawn in training", scale.pairs / drawn, "`train.steps`, `train.batch_size`"),
        Limit(
            "host memory of a training worker",
            graph.host_bytes() / graph.assumed.worker_memory,
            "`assemble.max_pairs_per_task`, `encode.quadrant`",
        ),
    ]


def _of_driver(graph: Graph) -> list[Limit]:
    assumed, driver = graph.assumed, graph.driver_seconds()
    seconds = assumed.hours * 3600
    several = "none; several runs: `tasks` in `generate.editors`"
    more_tasks = "`generate.sources_per_task`: more tasks (`generate.instructions`) rather than more of each"

    def longest(part: str) -> float:
        return max(own[part] for own in driver.values()) / seconds

    return [
        Limit(
            "bytes through the driver: merge, hashes",
            max(own["bytes"] + own["dvc"] for own in driver.values()) / seconds,
            "`collect.size`, or several runs: `tasks` in `generate.editors`",
        ),
        Limit("rows through the driver", longest("rows"), several),
        Limit(
            "rows through the driver, if the measured growth went on",
            max(graph.grown_seconds().values()) / seconds,
            several,
        ),
        Limit(
            "reads of the merge, one a row",
            longest("reads"),
            "none; `.work` on a faster file system, or several runs",
        ),
        Limit(
            "memory to compare each pair of a task with each",
            graph.per_task * graph.costs["task"]["bytes"] / assumed.driver_memory,
            more_tasks,
        ),
        Limit("time to compare each pair of a task with each", longest("each"), more_tasks),
        Limit("memory of the driver", graph.driver_bytes() / assumed.driver_memory, several),
    ]


def _of_storage(graph: Graph) -> list[Limit]:
    assumed = graph.assumed
    files = max(step.function.batches for step in graph.steps())
    return [
        Limit("files in one journal", files / assumed.files, "`pool.batch_size`"),
        Limit("disk", total_bytes(graph) / assumed.disk, "`collect.size`"),
        Limit("bandwidth of the store", graph.moved() / assumed.bandwidth / assumed.hours / 3600, "`collect.size`"),
    ]


def _worked(graph: Graph, *names: str) -> float:
    """Seconds that the longest of some functions works, by the closed formula."""
    engine, store = engine_of(graph.costs, graph.assumed), store_of(graph.assumed)
    steps = [step for step in graph.steps() if f"{step.stage} {step.name}" in names]
    return max(closed(step.function, engine, store).working for step in steps)


def total_bytes(graph: Graph) -> float:
    """What is published, its copy in DVC's cache, and below .work the journals and the checkpoints of training."""
    return 2 * sum(graph.outs().values()) + sum(graph.journals().values()) + graph.light.work_bytes


def sized(step: Step, assumed: Assumed, engine: Engine) -> Function:
    """The function with as many actors as it takes to work, read and write for no longer than the hours assumed.

    By the closed formula. Where not its actors are what takes longer but the store or the driver, or one batch alone,
    more are no help.
    """
    seconds, store = assumed.hours * 3600, store_of(assumed)
    at_least = math.ceil(step.function.rows * step.function.worker_s / seconds)
    function = replace(step.function, actors=max(step.function.actors, at_least))
    while function.actors < function.batches:
        spent = closed(function, engine, store)
        if spent.working <= seconds or spent.bound != "actors":
            break
        function = replace(function, actors=function.actors + 1)
    return function


def store_of(assumed: Assumed) -> Store:
    """As it is assumed."""
    return Store(assumed.bandwidth, assumed.streams, assumed.latency)


def simulated(graph: Graph, engine: Engine) -> list[dict[str, Any]]:
    """Every function with a pool of its size: hours of work by closed formula, by simulation, and with deaths."""
    store = store_of(graph.assumed)
    found = []
    for step in graph.steps():
        function = sized(step, graph.assumed, engine)
        grain = max(1, max(function.block_sizes()) // EVENTS)
        formula = closed(function, engine, store)
        plain = simulate(function, engine, store, grain=grain)
        harmed = simulate(function, engine, store, Deaths(LIFE_S, RESTART_S), grain)
        assert plain.batches == harmed.batches == function.batches
        found.append(
            {
                "pairs": graph.scale.pairs,
                "function": f"{step.stage} {step.name}",
                "rows": function.rows,
                "actors": function.actors,
                "closed_h": formula.working / 3600,
                "bound": formula.bound,
                "simulated_h": plain.spent.working / 3600,
                "deaths_h": harmed.spent.working / 3600,
                "deaths": harmed.died,
            }
        )
    return found


def engine_of(costs: Mapping[str, Any], assumed: Assumed) -> Engine:
    """As it was measured, on nodes of the size that is assumed."""
    return Engine(**{**costs["engine"], "node": assumed.node_actors})


def reached(shares: Sequence[tuple[int, float]]) -> float:
    """Pairs at which a share becomes 1, on the straight line through two scales' logarithms."""
    (n0, s0), (n1, s1) = next((pair for pair in pairwise(shares) if pair[1][1] >= 1), (shares[-2], shares[-1]))
    slope = (math.log(s1) - math.log(s0)) / (math.log(n1) - math.log(n0))
    return math.inf if slope <= 0 else math.exp(math.log(n0) - math.log(s0) / slope)
