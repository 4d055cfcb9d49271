"""How fast a row function goes: a progress bar where somebody watches, and numbers for the stage's metrics.

The speed of light of a function is what its actors would do if they did nothing else: actors / seconds per row. What is
missing from it is scheduling, reading and writing of batches, and actors without work.
"""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

EVERY = 15.0  # s between two lines of progress in a log
Count = dict[
    str, Any
]  # of one batch: kept, refused, busy (seconds in the worker), megabytes (peak of its process), fault


def peak_megabytes() -> int:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@dataclass
class Pace:
    """What a run of one function has come to. `kept` and `refused` start with what earlier runs have finished."""

    function: str
    actors: int
    total: int
    kept: int
    refused: int
    rows: int = 0  # worked in this run
    busy: float = 0.0  # seconds in workers, summed over actors
    worker_megabytes: int = 0
    begun: float = field(default_factory=time.perf_counter)
    first: float | None = None  # when the first batch was started: before, actors load what they need
    last: float = 0.0

    def add(self, count: Count) -> None:
        """A batch has come back."""
        now = time.perf_counter()
        self.first = now - count["busy"] if self.first is None else self.first
        self.last = now
        self.kept += count["kept"]
        self.refused += count["refused"]
        self.rows += count["kept"] + count["refused"]
        self.busy += count["busy"]
        self.worker_megabytes = max(self.worker_megabytes, count["megabytes"])

    def report(self) -> dict[str, Any]:
        """For metrics/<stage>.json. Rates are of this run; a run that had nothing to do has none.

        `rows_per_s` counts from the first batch; `of_light` is its share of the speed of light, 0..1; `megabytes` are
        peaks of the driver and of the largest worker.
        """
        told: dict[str, Any] = {"rows": self.rows, "driver_megabytes": peak_megabytes()}
        if self.first is None or self.busy <= 0:
            return told
        seconds = max(self.last - self.first, 1e-9)
        light = self.rows / self.busy * self.actors
        return {
            **told,
            "start_s": round(self.first - self.begun, 1),
            "rows_per_s": round(self.rows / seconds, 2),
            "light_rows_per_s": round(light, 2),
            "of_light": round(self.rows / seconds / light, 3),
            "worker_megabytes": self.worker_megabytes,
        }


def shown(stage: str, pace: Pace, counts: Iterable[Count]) -> Iterator[Count]:
    """Pass counts through a progress bar with rate and time left; in a log, as of a job, a plain line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(f"{stage} {pace.function}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    state = TextColumn("{task.fields[rate]}/s, kept {task.fields[kept]}, refused {task.fields[refused]}")
    with Progress(*columns, state, console=console, disable=not console.is_terminal) as bar:
        done, told_at = pace.kept + pace.refused, time.monotonic()
        task = bar.add_task("", total=pace.total, completed=done, kept=pace.kept, refused=pace.refused, rate="?")
        for count in counts:
            yield count  # the pace takes it in before the bar is drawn
            rate = pace.report().get("rows_per_s", "?")
            bar.update(task, completed=pace.kept + pace.refused, kept=pace.kept, refused=pace.refused, rate=rate)
            if not console.is_terminal and time.monotonic() - told_at > EVERY:
                told_at = time.monotonic()
                print(f"{stage} {pace.function}: {line(pace)}", file=sys.stderr, flush=True)


def line(pace: Pace) -> str:
    """How far a run is, with rate and time left."""
    done, rate = pace.kept + pace.refused, pace.report().get("rows_per_s")
    left = f", {rate}/s, about {(pace.total - done) / rate:.0f} s left" if rate else ""
    return f"{done} of {pace.total} rows, {pace.kept} kept, {pace.refused} refused{left}"
