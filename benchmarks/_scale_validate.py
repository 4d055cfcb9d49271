"""The real row engine on Ray with a worker of known cost, against what the simulation says before it runs.

The engine's costs come from three runs, of a lone actor, of several, and of rows without work, and from the engine
without Ray; every other run is predicted from them.
"""

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import chdir
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from _scale_model import Engine, Function, Spent, Store, closed
from _scale_simulation import simulate
from _scale_worker import SCHEMA, Waits

from lorweb.config import Pool
from pipelines._batches import Batches
from pipelines._pace import Count
from pipelines._rows import Execute, RowJob, in_process, on_ray, run_rows
from pipelines._stage import start_ray

Row = dict[str, Any]
FULL: Final = Function(rows=1024, batch=8, actors=4, worker_s=0.02)
EMPTY: Final = Function(rows=256, batch=1, actors=4, worker_s=0.0)
PREDICTED: Final = (
    Function(rows=512, batch=8, actors=1, worker_s=0.02),
    Function(rows=1024, batch=8, actors=2, worker_s=0.02),
    Function(rows=2048, batch=4, actors=4, worker_s=0.01),
    Function(rows=1024, batch=64, actors=3, worker_s=0.03),  # few batches: actors end apart
    Function(rows=4096, batch=4, actors=4, worker_s=0.005),  # blocks of four batches
    Function(rows=2048, batch=8, actors=8, worker_s=0.05),
)


@dataclass(frozen=True)
class Real:
    """What a run came to: its parts, when actors were born (s from the call of the executor), and gaps between the end
    of a batch and the beginning of the actor's next one.
    """

    spent: Spent
    births: list[float]
    gaps: list[float]
    own: float  # s per batch in the actor beside the waiting
    stop: float  # s from the last batch until the executor is through


def run_real(function: Function, execute: Execute) -> Real:
    """Run a function on the row engine in a folder of its own."""
    marks: list[float] = []
    counts: list[Count] = []

    def timed(job: RowJob, batches: Batches) -> Iterator[Count]:
        marks.append(time.time())
        for count in execute(job, batches):
            counts.append(count)
            marks[1:] = [time.time()]
            yield count
        marks.append(time.time())

    items = [{"id": f"r{number:08d}", "value": number} for number in range(function.rows)]
    pool = Pool(actors=function.actors, cpus=0.1, gpus=0, batch_size=function.batch)
    job = RowJob("scale", "waits", Waits, (function.worker_s,), (1,), SCHEMA, pool, 0.0)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        begun = time.time()
        results = run_rows(job, items, timed)
        ended = time.time()
        told = results.index(["actor", "born", "begun"])
    assert len(told) == function.rows
    return _read(function, [begun, *marks, ended], counts, told)


def _read(function: Function, marks: list[float], counts: Iterable[Count], told: list[Row]) -> Real:
    begun, called, worked, gone, ended = marks
    first = min(row["begun"] for row in told)
    births = sorted({row["actor"]: row["born"] - called for row in told}.values())
    batches = defaultdict(set)
    for row in told:
        batches[row["actor"]].add(row["begun"])
    busy = sum(count["busy"] for count in counts) / function.batches
    full = function.worker_s * function.rows / function.batches
    gaps = [b - a - busy for begins in batches.values() for a, b in pairwise(sorted(begins))]
    return Real(
        Spent(called - begun, first - called, worked - first, ended - worked), births, gaps, busy - full, gone - worked
    )


def measure_engine(full: Function = FULL, empty: Function = EMPTY) -> tuple[Engine, list[Row]]:
    """The engine's costs, and the rows of the runs on Ray that they come from. Ray runs afterwards.

    A lone actor with an eighth of the rows says how long the first takes; `full` what further ones add; `empty`, of no
    work, how fast the driver hands out; two journals without Ray, of many rows a file and of one, what merging takes.
    """
    large = replace(full, rows=8 * full.rows, batch=64, worker_s=0.0)
    wide, narrow = (run_real(replace(large, batch=size), in_process).spent for size in (64, 1))
    file_s = max(0.0, (narrow.end - wide.end) / (large.rows - large.batches))
    begun = time.time()
    start_ray()
    ray_s = time.time() - begun
    run_real(replace(empty, rows=8 * empty.batch), on_ray)  # the first pool of a new Ray takes longer
    lone = replace(full, rows=full.rows // 8, actors=1)
    runs = {function: run_real(function, on_ray) for function in (lone, full, empty)}
    first, many, none = runs.values()
    gaps = [*first.gaps, *many.gaps]
    engine = Engine(
        first_s=first.births[0],
        next_s=max(0.0, many.births[-1] - first.births[0]) / max(1, full.pool - 1),
        item_s=wide.todo / large.rows,
        task_s=none.spent.working / empty.blocks,
        turn_s=max(0.0, statistics.mean(gaps)) if gaps else 0.0,
        batch_s=max(0.0, many.own),
        stop_s=statistics.mean(run.stop for run in runs.values()),
        file_s=file_s,
        row_s=max(0.0, (wide.end - large.batches * file_s) / large.rows),
    )
    rows = [told(function, run.spent, engine, "costs from here") for function, run in runs.items()]
    return replace(engine, ray_s=ray_s), rows


def told(function: Function, real: Spent, engine: Engine, what: str) -> Row:
    """A row: seconds measured, simulated, and by closed formulas; errors are relative to what was measured."""
    said, formula = simulate(function, engine, Store()).spent, closed(function, engine, Store())
    return {
        "what": what,
        "rows": function.rows,
        "batch": function.batch,
        "actors": function.actors,
        "worker_ms": 1000 * function.worker_s,
        "measured_s": real.seconds,
        "simulated_s": said.seconds,
        "closed_s": formula.seconds,
        "error": said.seconds / real.seconds - 1,
        "working_s": real.working,
        "simulated_working_s": said.working,
        "working_error": said.working / real.working - 1,
    }


def validate(functions: Iterable[Function], engine: Engine) -> Iterator[Row]:
    """Each function on the Ray that runs, against its prediction."""
    warm = replace(engine, ray_s=0.0)
    return (told(function, run_real(function, on_ray).spent, warm, "predicted") for function in functions)


def load() -> str:
    """How busy the machine is, for the record."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def folder_of_results() -> Path:
    """benchmarks/results/scale."""
    return Path(__file__).parent / "results" / "scale"
