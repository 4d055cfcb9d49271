"""Random views of training images: one crop and one flip for a whole analogy, before its images are composed.

A crop or flip of the composed grid would be another thing: it swaps a with a', and shows b' to the control grid. So a
view is drawn once, in shares of an image's sides, and applied to every image by itself: `view.apply` to a and a', which
keeps the edit between them, and to b and b'. All four share one view, since an edit may have a left and a right.
"""

from dataclasses import dataclass

import torch
from PIL import Image, ImageOps

from lorweb.kontext.flow import generator


@dataclass(frozen=True)
class ViewRule:
    """What may be drawn. `smallest`: least side of the crop, as a share of the image's side; 1 never crops.

    `flips`: share of views that are mirrored left to right; 0 where instructions or edits speak of left and right.

    Raises:
        ValueError: `smallest` is not in (0, 1], or `flips` is not in [0, 1].
    """

    smallest: float
    flips: float

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= 1:
            raise ValueError(f"the smallest crop is {self.smallest}; it is a share of a side, above 0 and at most 1")
        if not 0 <= self.flips <= 1:
            raise ValueError(f"the share of flips is {self.flips}; it must be between 0 and 1")


@dataclass(frozen=True)
class RandomView:
    """A crop that keeps proportions, then perhaps a flip. `left`, `top` and `side` are shares of the image's sides."""

    left: float
    top: float
    side: float
    flipped: bool

    def apply(self, image: Image.Image) -> Image.Image:
        """The part of an RGB image that this view shows, to the nearest pixel and at least one; nothing is resized."""
        width, height = (max(1, round(self.side * length)) for length in image.size)
        left, top = round(self.left * image.width), round(self.top * image.height)
        left, top = min(left, image.width - width), min(top, image.height - height)
        shown = image.crop((left, top, left + width, top + height))
        return ImageOps.mirror(shown) if self.flipped else shown


def draw_view(rule: ViewRule, number: int) -> RandomView:
    """View `number` of every image: it depends on the arguments alone. Training draws which number a slot of a step is
    shown in (`lorweb.training.sampler.slot_view`).

    The side is uniform in [smallest, 1], the place uniform among those inside the image.
    """
    side, left, top, coin = torch.rand(4, generator=generator(0, "view", 0, number), dtype=torch.float64).tolist()
    side = rule.smallest + (1 - rule.smallest) * side
    return RandomView(left * (1 - side), top * (1 - side), side, coin < rule.flips)
