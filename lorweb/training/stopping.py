"""When a run is over before its last step, and which step is published: by a validation loss, never by test analogies.

Both are pure functions of what validation has measured, which travels in the checkpoints: a resumed run stops where an
undisturbed one does. Rows are {"step", "split", "loss"} in the order they were measured.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lorweb.config import Train
from lorweb.training.limits import Stop
from lorweb.training.validation import ValidationSet


def check_stop(config: Train, held_out: Sequence[ValidationSet]) -> None:
    """Raises ValueError if the split that early stopping looks at has no analogies."""
    splits = [chosen.split for chosen in held_out]
    if config.stop and config.stop.split not in splits:
        raise ValueError(
            f"train.stop.split is {config.stop.split}, but the splits with validation analogies are "
            f"{', '.join(splits) or 'none'}; take one of them, or null to train to the last step"
        )


def gone_without_gain(validation: Sequence[Mapping[str, Any]], stop: Stop) -> int:
    """Validations since the last that improved on the best loss so far by more than `min_delta`.

    The first one, of the untrained variant, counts.
    """
    best, count = math.inf, 0
    for row in validation:
        if row["split"] != stop.split:
            continue
        better = row["loss"] < best - stop.min_delta
        best, count = (row["loss"], 0) if better else (best, count + 1)
    return count


def is_over(validation: Sequence[Mapping[str, Any]], config: Train) -> bool:
    """Whether early stopping is on and its patience is used up."""
    return config.stop is not None and gone_without_gain(validation, config.stop) >= config.stop.patience


def best_step(validation: Sequence[Mapping[str, Any]], split: str) -> int | None:
    """The step after which the loss of a split was lowest, the earliest of equals; the start aside, and what is no
    finite number.
    """
    rows = [row for row in validation if row["split"] == split and row["step"]]
    found = [(row["loss"], row["step"]) for row in rows if math.isfinite(row["loss"])]
    return min(found)[1] if found else None


def published_step(validation: Sequence[Mapping[str, Any]], last: int, config: Train) -> int:
    """The step whose weights are published: the last one done, or with `publish: best` the best of `keep_best`."""
    if config.publish == "last" or config.keep_best is None:
        return last
    return best_step(validation, config.keep_best) or last
