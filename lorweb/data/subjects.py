"""Does an edited image still show its own subject? Asked of the pairs of a task together.

Alone, a wrong subject is hard to tell from a strong edit: both are far from a. Among the pairs of a task it is easy:
what the edit does to all of them is taken away by centring, and a' must then be nearer to its own a than to any other.

Legend: P pairs of a task, D features.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lorweb.data.dedup import ROWS_HELD, Vectors, task_batches

LEAST_GROUP: Final = 4  # pairs; the mean of fewer is mostly the pair itself
BLOCK: Final = 1024  # pairs that are compared with all of their task at a time, so that memory grows with P, not P^2
WEIGHTS: Final = {"layout": 1.0, "outline": 0.5}  # spatial features by which a subject is known, and how much they say


@dataclass(frozen=True)
class Place:
    """Where a pair belongs: pairs of one subject may look alike without being wrong."""

    task: str
    subject: str


def own_subject(
    spatial: Mapping[str, Vectors], places: Mapping[str, Place], trusted: Collection[str], held: int = ROWS_HELD
) -> dict[str, float]:
    """How much nearer a' is to its own a than to the a of any other subject of its task, and a to its own a', -2..2.

    The smaller of the two cosine margins, of features centred on their task (a and a' each by their own mean); of
    several kinds of features, the mean of their cosines by `WEIGHTS`. Below 0 another subject's image fits better. 1
    where a task has fewer than 4 trusted pairs or one subject: nothing is known.

    Means and rivals are those of trusted pairs: what is known to be bad by itself must not speak against good pairs.

    Args:
        spatial: kind, of those in `WEIGHTS`, -> gives (id, features of a [D], of a' [D]) of every pair, again at each
            call.
        places: of the same pairs; pairs that are not in it are passed over.
        trusted: pairs against which all of them are measured.
        held: pairs held in memory at once; tasks are worked off in as many passes as that takes.
    """
    found: dict[str, float] = {}
    for tasks in task_batches({name: place.task for name, place in places.items()}, held):
        names: dict[str, list[str]] = {}
        sides: dict[str, list[Sides]] = defaultdict(list)
        for kind, vectors in spatial.items():
            for task, own in _by_task(vectors, places, tasks).items():
                names[task] = [row[0] for row in own]
                trusted_P = np.array([name in trusted for name in names[task]])
                before_PD, after_PD = (_centred(np.stack([row[side] for row in own]), trusted_P) for side in (1, 2))
                sides[task].append((WEIGHTS[kind], after_PD, before_PD))
        for task, own_sides in sides.items():
            subject_P = np.array([places[name].subject for name in names[task]])
            trusted_P = np.array([name in trusted for name in names[task]])
            found |= dict(zip(names[task], _margins(own_sides, subject_P, trusted_P).tolist(), strict=True))
    return found


Row = tuple[str, NDArray[np.float32], NDArray[np.float32]]
Sides = tuple[float, NDArray[np.float64], NDArray[np.float64]]  # weight of a kind, unit features of the a' and of the a


def _by_task(vectors: Vectors, places: Mapping[str, Place], tasks: Collection[str]) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in vectors():
        if row[0] in places and places[row[0]].task in tasks:
            rows[places[row[0]].task].append(row)
    return {task: sorted(own, key=lambda row: row[0]) for task, own in rows.items()}


def _margins(sides: Sequence[Sides], subject_P: NDArray[np.str_], trusted_P: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the cosines, row: the a' of a pair, column: the a of one, `BLOCK` rows exist at a time."""
    count = len(subject_P)
    if trusted_P.sum() < LEAST_GROUP or len(set(subject_P[trusted_P].tolist())) < 2:
        return np.ones(count)
    weight = sum(w for w, _, _ in sides)
    own_P, rival_a_P, rival_a2_P = np.empty(count), np.empty(count), np.full(count, -np.inf)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        cosine_BP = np.asarray(sum(w * (after_PD[rows] @ before_PD.T) for w, after_PD, before_PD in sides)) / weight
        own_P[rows] = np.diagonal(cosine_BP, offset=start)
        same_BP = subject_P[rows, None] == subject_P[None, :]
        rival_a_P[rows] = np.where(same_BP | ~trusted_P[None, :], -np.inf, cosine_BP).max(axis=1)
        rival_a2_B = np.where(same_BP | ~trusted_P[rows, None], -np.inf, cosine_BP).max(axis=0)
        rival_a2_P = np.maximum(rival_a2_P, rival_a2_B)
    return np.asarray(own_P - np.maximum(rival_a_P, rival_a2_P), dtype=np.float64)


def _centred(values_PD: NDArray[np.float32], trusted_P: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Rows less the mean of the trusted ones, of unit length."""
    v = values_PD.astype(np.float64)
    v = v - v[trusted_P if trusted_P.any() else slice(None)].mean(axis=0)
    lengths = np.linalg.norm(v, axis=1, keepdims=True)
    centred: NDArray[np.float64] = v / np.maximum(lengths, 1e-12)
    return centred
