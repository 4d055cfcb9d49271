"""What a stage graph is made of at some scale: assumptions, row functions with their share of a GPU, numbers of rows.

One recipe grows all sizes: the catalogue's tasks stay, sources grow (`generate.sources_per_task`, and as many sources
as that), every task fits every source, and `assemble.max_pairs_per_task` lets all pairs through.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from _scale_model import Function

from lorweb.config import Params


def _assume(default: Any, told: str) -> Any:
    return field(default=default, metadata={"help": told})


@dataclass(frozen=True)
class Assumed:
    """What nobody measured here; each is an option of scale.py."""

    gpu: str = _assume("h100", "the GPU, of those that `lorweb plan` knows")
    utilisation: float = _assume(0.3, "share of its peak that every model reaches; measured for training alone")
    kept_kontext: float = _assume(0.7, "share of Kontext's edits that the filter keeps")
    hours: float = _assume(24.0, "that a function, and the driver's part of a stage, may take")
    gpu_usd: float = _assume(2.5, "US dollars for a GPU-hour")
    core_usd: float = _assume(0.04, "US dollars for a core-hour")
    store_usd: float = _assume(20.0, "US dollars for a TB and month; one month is counted")
    node_actors: int = _assume(16, "actors that start on one node together")
    bandwidth: float = _assume(10e9, "bytes per second of the shared store, all together")
    streams: int = _assume(64, "transfers at once, each at its share of the bandwidth; others wait")
    latency: float = _assume(
        0.002, "seconds of a request to the store: of a batch that is read or written, of a row that is merged"
    )
    disk: float = _assume(100e12, "bytes that there is room for")
    driver_memory: float = _assume(64e9, "bytes for the driver")
    worker_memory: float = _assume(200e9, "bytes of host memory for a training worker")
    files: float = _assume(1e6, "files in one folder before listing it hurts")
    md5_threads: int = _assume(8, "threads of DVC's hashing")


@dataclass(frozen=True)
class Step:
    """One row function of a stage at some scale, with the share of a GPU that an actor holds."""

    stage: str
    name: str
    function: Function
    gpus: float
    cores: float

    @property
    def gpu_hours(self) -> float:
        """GPUs held by busy actors."""
        return self.function.rows * self.function.worker_s * self.gpus / 3600

    @property
    def core_hours(self) -> float:
        """Cores that busy actors use."""
        return self.function.rows * self.function.worker_s * self.cores / 3600


@dataclass(frozen=True)
class Scale:
    """Rows of everything at one number of accepted pairs."""

    pairs: int
    per_task: float  # sources of each task
    embedded: int  # candidates
    kontext: int
    tasks: int

    @property
    def candidates(self) -> int:
        """Pairs before the filter."""
        return self.embedded + self.kontext

    @property
    def sources(self) -> int:
        """As many as one task takes."""
        return math.ceil(self.per_task)

    @property
    def images(self) -> int:
        """To encode: every a' once, every a once."""
        return self.pairs + self.sources


def scale_of(params: Params, costs: Mapping[str, Any], assumed: Assumed, pairs: int) -> Scale:
    """The sizes that give so many pairs after the filter."""
    from lorweb.data.catalogue import load_catalogue

    names = [task.id for task in load_catalogue().tasks]
    count = {
        entry.editor: sum(any(fnmatchcase(name, pattern) for pattern in entry.tasks) for name in names)
        for entry in params.generate.editors
    }
    kept = count["embedded"] * costs["kept"]["kept"] + count["kontext"] * assumed.kept_kontext
    per_task = pairs / kept
    rows = {name: math.ceil(number * per_task) for name, number in count.items()}
    return Scale(pairs, per_task, rows["embedded"], rows["kontext"], sum(count.values()))
