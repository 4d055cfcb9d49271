"""One row function on the row engine as numbers, and how long it takes by closed formulas.

The structure is that of pipelines/_rows.py: the driver writes what is to do, starts Ray and a fixed pool of actors,
hands them blocks of batches one after another, and in the end scans the journal and merges it. Every time is in
seconds, every size in bytes.
"""

import math
from dataclasses import dataclass
from typing import Final

from pipelines._rows import BLOCKS_PER_ACTOR

IN_FLIGHT: Final = 2  # blocks that Ray Data hands an actor ahead: its default for actors of one task at a time


@dataclass(frozen=True)
class Engine:
    """What the engine costs, whatever the worker does. Zeros are an engine that costs nothing."""

    ray_s: float = 0.0  # start of Ray; none where it runs already
    first_s: float = 0.0  # from there until an actor that is alone on its node can load its worker
    next_s: float = 0.0  # more for each further actor of the node: they import on the same cores, all at once
    item_s: float = 0.0  # driver, per row, before anything runs: its key, and its line of what is to do
    task_s: float = 0.0  # driver, per block: scheduling, one block after another
    turn_s: float = 0.0  # actor, per block: from one to the next
    batch_s: float = 0.0  # actor, per batch, beside the worker: JSON, the file in the journal, reading it back
    stop_s: float = 0.0  # from the last batch until the actors are gone
    file_s: float = 0.0  # driver, per file of the journal, when it is scanned
    row_s: float = 0.0  # driver, per row, when it is scanned and merged
    node: int = 1_000_000  # actors of a node


@dataclass(frozen=True)
class Function:
    """A row function: its pool, and what a row costs its worker."""

    rows: int
    batch: int  # rows
    actors: int
    worker_s: float  # per row
    load_s: float = 0.0  # of a worker, before its first row
    read: float = 0.0  # bytes per row, from the store
    written: float = 0.0  # bytes per row, to the store

    @property
    def batches(self) -> int:
        """Files of the journal."""
        return math.ceil(self.rows / self.batch)

    @property
    def pool(self) -> int:
        """Actors that are started."""
        return min(self.actors, self.batches)

    @property
    def blocks(self) -> int:
        """Tasks of Ray, each of one batch or several."""
        return min(self.batches, BLOCKS_PER_ACTOR * self.pool)

    def block_sizes(self) -> list[int]:
        """Batches of each block, as even as can be."""
        least, more = divmod(self.batches, self.blocks) if self.blocks else (0, 0)
        return [least + (number < more) for number in range(self.blocks)]


@dataclass(frozen=True)
class Store:
    """Storage that all share: `streams` transfers at once, each at its share of the bandwidth; others wait."""

    bandwidth: float = math.inf  # bytes per second, all together
    streams: int = 1000
    latency: float = 0.0  # of each reading or writing of a batch

    @property
    def stream_rate(self) -> float:
        """Bytes per second of one transfer."""
        return self.bandwidth / self.streams


@dataclass(frozen=True)
class Spent:
    """Seconds of a run of one function by part, which follow one another; `bound` says what decides `working`."""

    todo: float
    start: float
    working: float
    end: float
    bound: str = ""

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.todo + self.start + self.working + self.end


def start_seconds(function: Function, engine: Engine) -> float:
    """From the call of Ray until the pool is there."""
    together = min(function.pool, engine.node)
    return engine.ray_s + engine.first_s + (together - 1) * engine.next_s + function.load_s


def closed(function: Function, engine: Engine, store: Store) -> Spent:
    """The closed formulas. `working` is the longest of what three could not do faster.

    actors: the one with most blocks; store: all bytes over the bandwidth; driver: all blocks, one after another. Exact
    where one actor works alone; with several it knows nothing of actors that queue for the store, or end apart.
    """
    if not function.rows:
        return Spent(0.0, 0.0, 0.0, 0.0, "nothing to do")
    rounds = math.ceil(function.blocks / function.pool)
    batches = min(function.batches, rounds * math.ceil(function.batches / function.blocks))  # the largest blocks
    rows = min(function.rows, batches * function.batch)
    moved = function.read + function.written
    transfers = (function.read > 0) + (function.written > 0)
    bounds = {
        "actors": rows * (function.worker_s + moved / store.stream_rate)
        + batches * (engine.batch_s + transfers * store.latency)
        + rounds * engine.turn_s,
        "store": function.rows * moved / store.bandwidth,
        "driver": function.blocks * engine.task_s,
    }
    bound = max(bounds, key=lambda name: bounds[name])
    return Spent(
        todo=function.rows * engine.item_s,
        start=start_seconds(function, engine) + engine.task_s,
        working=bounds[bound],
        end=engine.stop_s + function.batches * engine.file_s + function.rows * engine.row_s,
        bound=bound,
    )
