"""What may be asked of a run, wherever it is asked: command line, Python, server, page, and the recipe in a picture."""

import math
from numbers import Integral
from typing import Any, Final

STEPS: Final = (1, 1000)  # the schedule that FLUX was trained on has no more
GUIDANCE: Final = (0.0, 100.0)
STRENGTH: Final = (-10.0, 10.0)  # far outside of it activations overflow
SEED: Final = (0, 2**63 - 1)  # torch takes negative ones too, and gives some of them the noise of others
SERVED_STEPS: Final = (1, 200)  # of a row that somebody else's machine computes


def check_whole(value: Any, name: str, limits: tuple[int, int]) -> None:
    """Raises ValueError for what is no whole number within the limits, both included."""
    low, high = limits
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise ValueError(f"the {name} is {str(value)[:40]}; it must be a whole number from {low} to {high}")


def check_number(value: Any, name: str, limits: tuple[float, float]) -> None:
    """Raises ValueError for what is no finite number within the limits, both included."""
    low, high = limits
    try:
        fits = math.isfinite(value) and low <= value <= high
    except (TypeError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(f"the {name} is {str(value)[:40]}; it must be a number from {low:g} to {high:g}")


def check_asked(strength: float, steps: int | None, guidance: float | None, seed: int) -> None:
    """All four; None is what the model has itself. Raises ValueError."""
    check_number(strength, "strength", STRENGTH)
    check_whole(seed, "seed", SEED)
    if steps is not None:
        check_whole(steps, "number of inference steps", STEPS)
    if guidance is not None:
        check_number(guidance, "guidance scale", GUIDANCE)


class NotFiniteError(ValueError):
    """Numbers that no picture can be made of: it would be black."""

    def __init__(self, what: str, dtype: object) -> None:
        name = str(dtype).removeprefix("torch.")
        why = "weights are damaged, or strength or guidance is too large"
        overflow = f"{what} are not finite numbers in {name}, which overflows; use bfloat16 or float32"
        super().__init__(overflow if name == "float16" else f"{what} are not finite numbers in {name}: {why}")
