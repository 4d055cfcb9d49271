"""How often training draws each task: whole-number weights, so that a draw is exact on every machine."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Balance = Literal["task", "edit_type", "pairs", "sqrt"]
_ONE: Final = 1_000_000  # of weights that are no whole numbers by themselves


@dataclass(frozen=True)
class Kind:
    """What weighs in of one pair."""

    task: str
    edit_type: str


def task_weights(pairs: Iterable[Kind], balance: Balance) -> dict[str, int]:
    """{task: weight >= 1}: "task" weighs all alike, "edit_type" gives every type the same share, "pairs" goes by the
    number of pairs, "sqrt" by its square root.
    """
    pairs = list(pairs)
    count = Counter(pair.task for pair in pairs)
    type_of = {pair.task: pair.edit_type for pair in pairs}
    tasks_of = Counter(type_of.values())
    weights = {
        "task": dict.fromkeys(count, 1),
        "edit_type": {task: round(_ONE / tasks_of[type_of[task]]) for task in count},
        "pairs": count,
        "sqrt": {task: round(1000 * math.sqrt(number)) for task, number in count.items()},
    }[balance]
    return {task: max(1, weights[task]) for task in sorted(count)}
