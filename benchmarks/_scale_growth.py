"""What a driver's rows would take if their cost went on to grow as it did between the three sizes that were measured.

Measured is what a row costs from the small size to the middle one, and how many times that from there to the large one;
both costs are taken to be those of the sizes half way, and what lies beyond to be a power of the rows.
"""

import math
from collections.abc import Mapping
from typing import Final

SIZES: Final = (6000, 24000, 48000)  # candidates, for the slopes of drivers; a buffer of the filter fills up to 20,000


def exponent(growth: float) -> float:
    """Of a row's cost by the number of rows; 0 where it does not grow."""
    small, middle, large = SIZES
    return math.log(growth) / math.log((middle + large) / (small + middle)) if growth > 1 else 0.0


def grown(own: Mapping[str, float], rows: float) -> float:
    """Seconds of a driver, whose measured costs are `own`, for so many rows: up to where it was measured, all alike."""
    power, known = exponent(own["growth_s"]), (own["from_rows"] + own["rows"]) / 2
    if rows <= known:
        return own["row_s"] * rows
    return own["row_s"] * known * (1 + ((rows / known) ** (1 + power) - 1) / (1 + power))
