"""Which analogies a step trains on: a pure function of (seed, step, slot); a resumed or re-sharded run sees the same.

Nothing is shuffled, buffered or stored. A slot is one position in the global batch; rank r of R works on slots r, r+R,
..., and therefore the union over ranks is the same batch for every R.
"""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from lorweb.records import stable_id

_HALF = 1 << 63


@dataclass(frozen=True, order=True)
class TrainPair:
    """One row of records.TRAIN_PAIR: a pair that training may draw from."""

    task: str
    subject: str
    pair: str
    instruction: str
    weight: int = 1  # of the task, the same in all its pairs


@dataclass(frozen=True)
class Drawn:
    """One analogy a : a' :: b : b' of one slot. `instruction` is "" where the caption was dropped."""

    slot: int
    task: str
    exemplar: str  # pair id: before is a, after is a'
    query: str  # pair id: before is b, after is b'
    instruction: str


def stable_seed(*parts: object) -> int:
    """A seed in [0, 2^63) that depends on its parts alone: same on every machine, Python and library version."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HALF


def other_exemplar(analogy: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str | None:
    """Pair id of another task's exemplar: what a listed analogy is shown to see whether the exemplar matters.

    Rows as records.ANALOGY. The choice depends on the analogy's id and the order of `others` alone; None where all of
    them are of one task.
    """
    start = int(stable_id("shuffle", analogy["id"]), 16) % len(others)
    for other in (*others[start:], *others[:start]):
        if other["task"] != analogy["task"] and other["instruction"] != analogy["instruction"]:
            return str(other["exemplar"])
    return None


def slot_view(seed: int, step: int, slot: int, views: int) -> int:
    """Which view one slot of a step is shown in: 0, the whole images, or one of `views` random ones, all alike."""
    return stable_seed("view", seed, step, slot) % (1 + views)


def rank_slots(batch_size: int, rank: int, world: int) -> range:
    """The slots of the global batch that one rank computes."""
    return range(rank, batch_size, world)


class _Task:
    """Pairs of one task in a fixed order, with the stretch each subject occupies: draws cost O(1)."""

    def __init__(self, pairs: Sequence[TrainPair]) -> None:
        self.pairs = sorted(pairs)
        self.stretch: dict[str, tuple[int, int]] = {}
        for index, pair in enumerate(self.pairs):
            first, _ = self.stretch.get(pair.subject, (index, index))
            self.stretch[pair.subject] = (first, index + 1)

    def two(self, first_draw: int, second_draw: int) -> tuple[TrainPair, TrainPair]:
        """Exemplar uniform over the pairs, query uniform over the pairs of the other subjects."""
        exemplar = self.pairs[first_draw % len(self.pairs)]
        start, end = self.stretch[exemplar.subject]
        other = second_draw % (len(self.pairs) - (end - start))
        return exemplar, self.pairs[other if other < start else other + (end - start)]


class AnalogySampler:
    """Draws training analogies: a task by its weight, then two of its pairs with different subjects, uniformly.

    Tasks with a single subject cannot make an analogy; their names are in `skipped`. With `pool` > 0 only that many
    analogies are ever drawn, the same for every seed: those whose grids the encode stage has seen.

    Raises:
        ValueError: no task has pairs of two subjects.
    """

    def __init__(
        self, pairs: Sequence[TrainPair], seed: int, batch_size: int, caption_dropout: float, pool: int = 0
    ) -> None:
        by_task: dict[str, list[TrainPair]] = defaultdict(list)
        for pair in pairs:
            by_task[pair.task].append(pair)
        tasks = {name: _Task(group) for name, group in sorted(by_task.items())}
        self.skipped = [name for name, task in tasks.items() if len(task.stretch) < 2]
        self._tasks = [task for name, task in tasks.items() if name not in self.skipped]
        self._reach = list(accumulate(task.pairs[0].weight for task in self._tasks))  # of the weights, up to each task
        if not self._tasks:
            raise ValueError(
                f"{len(pairs)} training pairs in {len(tasks)} tasks hold no task with two different subjects, "
                "so no analogy can be drawn; collect more sources or loosen the filter"
            )
        self.seed = seed
        self.batch_size = batch_size
        self.caption_dropout = caption_dropout
        self.pool = pool

    def pooled(self, index: int) -> tuple[TrainPair, TrainPair]:
        """Exemplar and query of one analogy of the pool."""
        task, first, second = (stable_seed("pool", index, what) for what in ("task", "exemplar", "query"))
        return self._task(task).two(first, second)

    def _task(self, draw: int) -> _Task:
        return self._tasks[bisect_right(self._reach, draw % self._reach[-1])]

    def slot(self, step: int, slot: int) -> Drawn:
        """The analogy of one slot of the batch of one step (both counted from 0)."""
        task_draw, first, second, caption = (
            stable_seed("analogy", self.seed, step, slot, what) for what in ("task", "exemplar", "query", "caption")
        )
        if self.pool:
            exemplar, query = self.pooled(task_draw % self.pool)
        else:
            exemplar, query = self._task(task_draw).two(first, second)
        dropped = caption / _HALF < self.caption_dropout
        instruction = "" if dropped else exemplar.instruction
        return Drawn(slot, exemplar.task, exemplar.pair, query.pair, instruction)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> list[Drawn]:
        """The part of a step's global batch that one rank computes, in slot order."""
        return [self.slot(step, slot) for slot in rank_slots(self.batch_size, rank, world)]
