"""Duplicates among the pairs of one task: the same look (perceptual hashes), or the same content (features).

Legend: P pairs of a task, D features.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

BITS: Final = 64
ROWS_HELD: Final = 20_000  # pairs whose features are in memory at once: 2 x 80 MB at D = 1024

Vectors = Callable[[], Iterable[tuple[str, NDArray[np.float32], NDArray[np.float32]]]]


@dataclass(frozen=True)
class HashedPair:
    """What deduplication looks at; `group` is the task, since one source is meant to come back in other tasks."""

    id: str
    group: str
    before: int  # 64-bit hash
    after: int


class Near:
    """Hashes within `distance` bits of a given one, without looking at all: cut into distance + 1 pieces, two hashes
    that differ in `distance` bits agree in at least one piece.
    """

    def __init__(self, distance: int) -> None:
        self.distance = distance
        edges = np.linspace(0, BITS, distance + 2).round().astype(int).tolist()
        self._cuts = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._pieces: list[dict[int, list[tuple[int, str]]]] = [defaultdict(list) for _ in self._cuts]

    def add(self, value: int, name: str) -> None:
        """Remember a hash under a name."""
        for (low, mask), pieces in zip(self._cuts, self._pieces, strict=True):
            pieces[value >> low & mask].append((value, name))

    def find(self, value: int) -> Iterator[str]:
        """Names of the remembered hashes within the distance, in the order of adding for each piece; repeats occur."""
        for (low, mask), pieces in zip(self._cuts, self._pieces, strict=True):
            for known, name in pieces.get(value >> low & mask, ()):
                if (known ^ value).bit_count() <= self.distance:
                    yield name


def duplicates(pairs: Iterable[HashedPair], distance: int) -> dict[str, str]:
    """Which pairs repeat an earlier one (by id) of their task: {id of the repeat: id of the pair that stays}.

    Two pairs are the same if both their hashes differ in at most `distance` bits. The smallest id stays, whatever the
    order of the input.
    """
    kept: dict[str, HashedPair] = {}
    near: dict[str, Near] = defaultdict(lambda: Near(distance))
    found: dict[str, str] = {}
    for pair in sorted(pairs, key=lambda p: p.id):
        alike = (
            name
            for name in near[pair.group].find(pair.before)
            if (kept[name].after ^ pair.after).bit_count() <= distance
        )
        same = min(alike, default=None)
        if same is not None:
            found[pair.id] = same
            continue
        kept[pair.id] = pair
        near[pair.group].add(pair.before, pair.id)
    return found


def semantic_duplicates(
    vectors: Vectors, group: Mapping[str, str], least: float, held: int = ROWS_HELD
) -> dict[str, str]:
    """As `duplicates`, by content: the cosines of both features, of a and of a', are at least `least`.

    Args:
        vectors: gives (id, features of a [D], of a' [D]) of every pair, again at each call.
        group: id -> task; pairs that are not in it are passed over.
        least: cosine, -1..1.
        held: pairs held in memory at once; tasks are worked off in as many passes as that takes.
    """
    found: dict[str, str] = {}
    for names in task_batches(group, held):
        rows: dict[str, list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]] = defaultdict(list)
        for name, before_D, after_D in vectors():
            if group.get(name) in names:
                rows[group[name]].append((name, unit(before_D), unit(after_D)))
        for own in rows.values():
            found |= _alike(sorted(own, key=lambda row: row[0]), least)
    return found


def task_batches(group: Mapping[str, str], held: int) -> Iterator[Collection[str]]:
    """Tasks in order, as many at a time as have `held` pairs together, and at least one."""
    sizes: dict[str, int] = defaultdict(int)
    for task in group.values():
        sizes[task] += 1
    batch: set[str] = set()
    for task in sorted(sizes):
        if batch and sum(sizes[name] for name in batch) + sizes[task] > held:
            yield batch
            batch = set()
        batch.add(task)
    if batch:
        yield batch


def _alike(rows: list[tuple[str, NDArray[np.float32], NDArray[np.float32]]], least: float) -> dict[str, str]:
    """The first row that stays and is like a later one speaks for it."""
    before_PD, after_PD = (np.stack([row[side] for row in rows]) for side in (1, 2))
    kept: list[int] = []
    found: dict[str, str] = {}
    for i in range(len(rows)):
        near = (before_PD[kept] @ before_PD[i] >= least) & (after_PD[kept] @ after_PD[i] >= least)
        if near.any():
            found[rows[i][0]] = rows[kept[int(near.argmax())]][0]
        else:
            kept.append(i)
    return found


def unit(vector_D: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1; zeros stay zeros."""
    length = float(np.linalg.norm(vector_D))
    return np.asarray(vector_D / length if length > 0 else vector_D, dtype=np.float32)
