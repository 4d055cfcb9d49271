"""Analogy consistency: what only the pairs of a task together can tell of one of them.

Does a -> a' go where the other pairs of the task go, is it as large, does another task's edit fit it better, and does
any score stand out in its task?

Legend: T tasks, D features.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Changes = Callable[[], Iterable[tuple[str, str, NDArray[np.float32]]]]
MAD_TO_SIGMA: Final = 1.4826  # of a normal distribution
LEAST_GROUP: Final = 8  # pairs; fewer do not say what is usual
_TINY: Final = 1e-12


@dataclass(frozen=True)
class Agreement:
    """One pair against the other pairs of its task.

    Attributes:
        direction: cosine, -1..1, of its change to the mean change of the others, directions counted with unit length.
        magnitude: length of its change over the median length in the task, >= 0.
        edit: `direction`, less the largest cosine of its change to the mean change of any other task, -2..2. Below 0
            another task's edit fits better.
    """

    direction: float
    magnitude: float
    edit: float


def agreement(changes: Changes) -> dict[str, Agreement]:
    """How each pair's change agrees with those of its task, the pair itself left out of the mean.

    A pair without change has direction 0; the only pair of a task has 1, since nothing speaks against it. Where the
    median length is 0, so is every magnitude. Where there is one task alone, `edit` is 1 + direction.

    Args:
        changes: called twice, gives (pair id, task, change of features [D]) each time: memory is one sum per task and
            one number per pair.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: Counter[str] = Counter()
    lengths: dict[str, list[float]] = defaultdict(list)
    for _, task, change_D in changes():
        unit_D = _unit(change_D)
        sums[task] = sums[task] + unit_D if task in sums else unit_D
        counts[task] += 1
        lengths[task].append(float(np.linalg.norm(change_D)))
    usual = {task: float(np.median(own)) for task, own in lengths.items()}
    place = {task: t for t, task in enumerate(sums)}
    means_TD = np.stack([_unit(own) for own in sums.values()]) if sums else np.empty((0, 0))
    found = {}
    for name, task, change_D in changes():
        unit_D = _unit(change_D)
        direction = float(unit_D @ _unit(sums[task] - unit_D)) if counts[task] > 1 else 1.0
        others_T = means_TD @ unit_D
        others_T[place[task]] = -1.0
        length = float(np.linalg.norm(change_D))
        magnitude = length / usual[task] if usual[task] > _TINY else 0.0
        found[name] = Agreement(direction, magnitude, direction - float(others_T.max()))
    return found


def standing(values: Mapping[str, float], task: Mapping[str, str]) -> dict[str, float]:
    """How far each pair's value stands from its task's median, in robust standard deviations (1.4826 MAD), signed.

    0 in tasks of fewer than 8 pairs, and where more than half of a task has one value and the pair has it too.

    Args:
        values: pair id -> score.
        task: pair id -> task, of at least the same pairs.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in values:
        groups[task[name]].append(name)
    found: dict[str, float] = {}
    for own in groups.values():
        v = np.array([values[name] for name in own], dtype=np.float64)
        middle = float(np.median(v))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(v - middle)))
        if len(own) < LEAST_GROUP:
            found |= dict.fromkeys(own, 0.0)
            continue
        # a task whose pairs are all but equal has no spread: a thousandth of the median keeps the quotient finite
        z = (v - middle) / max(spread, 1e-3 * abs(middle), _TINY)
        found |= dict(zip(own, z.tolist(), strict=True))
    return found


def _unit(vector_D: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    vector_D = np.asarray(vector_D, dtype=np.float64)
    length = float(np.linalg.norm(vector_D))
    return vector_D / length if length > _TINY else np.zeros_like(vector_D)
