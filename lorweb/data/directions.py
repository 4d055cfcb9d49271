"""How well the change of one pair agrees with the changes of the other pairs of its task."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Changes = Callable[[], Iterable[tuple[str, str, NDArray[np.float32]]]]


def agreement(changes: Changes) -> dict[str, float]:
    """Cosine, -1..1, of each change direction to the mean direction of its task without that pair itself.

    Directions count with unit length. A pair without change has 0; the only pair of a task has 1, since nothing speaks
    against it.

    Args:
        changes: called twice, gives (pair id, task, direction [D]) each time: memory is one sum per task.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: Counter[str] = Counter()
    for _, task, direction_D in changes():
        unit_D = _unit(direction_D)
        sums[task] = sums[task] + unit_D if task in sums else unit_D
        counts[task] += 1
    return {
        name: float(_unit(direction_D) @ _unit(sums[task] - _unit(direction_D))) if counts[task] > 1 else 1.0
        for name, task, direction_D in changes()
    }


def _unit(vector_D: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    vector_D = np.asarray(vector_D, dtype=np.float64)
    length = float(np.linalg.norm(vector_D))
    return vector_D / length if length > 1e-12 else np.zeros_like(vector_D)
