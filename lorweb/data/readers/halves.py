"""What readers of pairs that exist share: both images alike, and the row of the pair."""

from dataclasses import dataclass
from typing import Final

from PIL import Image

from lorweb.data.decode import large_enough, square
from lorweb.data.readers.base import Edit, Facts, GivenPair, Location, given_pair, source_row
from lorweb.data.rejects import Rejected

BY_CONTENT: Final = ""  # as a subject: the before image is its own subject, whatever file it comes from


@dataclass(frozen=True)
class Halves:
    """The images of a pair, RGB, as they were decoded."""

    before: Image.Image
    after: Image.Image


def same_shape(halves: Halves, tolerance: float) -> Halves:
    """The pair itself. Raises `Rejected` (check `aspect`) where width / height differs by more than a share of it."""
    ratios = [image.width / image.height for image in (halves.before, halves.after)]
    difference = max(ratios) / min(ratios) - 1
    if difference > tolerance:
        sizes = " and ".join(f"{image.width} x {image.height}" for image in (halves.before, halves.after))
        raise Rejected("aspect", f"before and after are {sizes} pixels, not of one shape", difference, tolerance)
    return halves


def pair_row(location: Location, halves: Halves, size: int, facts: Facts, edit: Edit) -> GivenPair:
    """The centred squares of both images, `size` x `size`. Raises `Rejected` (check `too_small`).

    With the subject `BY_CONTENT`, pairs that share a before image share their subject: the split keeps them together.
    """
    before, after = (square(large_enough(image, size), size) for image in (halves.before, halves.after))
    source = source_row(location, before, facts)
    source["subject"] = facts.subject or f"pair:{source['sha256'][:16]}"
    return given_pair(source, after, edit)
