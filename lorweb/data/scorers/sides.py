"""The two sides of pairs: every distinct image once, and what the features of a and a' give.

Legend: D features, P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lorweb.data.scorers.base import SIDES, Array, PairImages


@dataclass(frozen=True)
class DistinctImages:
    """The images of pairs, each once: edits of one source share theirs. `before` and `after` say where they are."""

    images: list[Image.Image]
    before: list[int]
    after: list[int]

    @classmethod
    def of(cls, pairs: Sequence[PairImages]) -> "DistinctImages":
        """In the order of their first appearance; images with the same pixels are one."""
        place: dict[tuple[tuple[int, int], bytes], int] = {}
        images: list[Image.Image] = []
        sides: tuple[list[int], list[int]] = ([], [])
        for at, side in zip(sides, SIDES, strict=True):
            for pair in pairs:
                image: Image.Image = getattr(pair, side)
                key = (image.size, image.tobytes())
                if key not in place:
                    place[key] = len(images)
                    images.append(image)
                at.append(place[key])
        return cls(images, *sides)


def unit(x_PD: Array) -> Array:
    """Rows of unit length; a row of zeros stays one."""
    lengths_P1 = np.linalg.norm(x_PD, axis=1, keepdims=True)
    return np.asarray(x_PD / np.where(lengths_P1 > 0, lengths_P1, 1.0), dtype=np.float32)


def pair_vectors(encoder: str, before_D: Array, after_D: Array) -> dict[str, Array]:
    """`change`, `before` and `after` of one encoder, from the features of a and a'."""
    both = unit(np.stack([before_D, after_D]))
    return {f"change.{encoder}": after_D - before_D, f"before.{encoder}": both[0], f"after.{encoder}": both[1]}
