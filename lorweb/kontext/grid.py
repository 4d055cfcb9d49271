"""The 2x2 canvas: exemplars on top, query below. Width and height stay separate everywhere.

    target grid   [a, a'; b, b']        control grid   [a, a'; b, b]     (paper section 3.1: bottom-right copies b)

Legend: B batch, C channels, h w rows and columns of one quadrant, H W rows and columns of the grid (2h, 2w).
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Fit = Literal["crop", "pad", "stretch"]
Latents = Literal["quadrant", "grid"]
"""How a 2x2 grid becomes latents: each image by itself, composed after, or the composed picture as a whole."""
LATENTS: Final[tuple[Latents, ...]] = get_args(Latents)


@dataclass(frozen=True)
class Size:
    """Rows and columns, of pixels or latent cells; both at least 1."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a size needs at least 1x1, got height {self.height}, width {self.width}")

    @property
    def doubled(self) -> "Size":
        """Size of the grid made of four such quadrants."""
        return Size(2 * self.height, 2 * self.width)

    @classmethod
    def of(cls, image: Image.Image) -> "Size":
        """Size of an image in pixels."""
        return cls(image.height, image.width)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; fractions of a pixel are allowed in the original image."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom), as PIL takes a box."""
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True)
class Placement:
    """Where an image went: `source` in the original is what `target` in the quadrant shows."""

    original: Size
    source: Box
    target: Box


def placement(original: Size, quadrant: Size, fit: Fit) -> Placement:
    """How an image of `original` px is fitted into `quadrant` px.

    crop: fills the quadrant with the centre of the image; pad: shows the whole image, centred; stretch: both axes
    scaled apart, the only rule that changes proportions.
    """
    H, W, h, w = quadrant.height, quadrant.width, original.height, original.width
    everything, whole = Box(0, 0, W, H), Box(0, 0, w, h)
    if fit == "stretch" or (h, w) == (H, W):
        return Placement(original, whole, everything)
    if fit == "crop":
        scale = max(H / h, W / w)
        dx, dy = max(0.0, (w - W / scale) / 2), max(0.0, (h - H / scale) / 2)
        return Placement(original, Box(dx, dy, w - dx, h - dy), everything)
    if fit == "pad":
        scale = min(H / h, W / w)
        rows, columns = min(H, max(1, round(h * scale))), min(W, max(1, round(w * scale)))
        left, top = (W - columns) // 2, (H - rows) // 2
        return Placement(original, whole, Box(left, top, left + columns, top + rows))
    raise ValueError(f"fit is '{fit}'; use 'crop', 'pad' or 'stretch'")


def fit_image(image: Image.Image, quadrant: Size, fit: Fit) -> tuple[Image.Image, Placement]:
    """An RGB image of `quadrant` px, and its placement. Padding repeats edge pixels, which invents no colour."""
    where = placement(Size.of(image), quadrant, fit)
    left, top, right, bottom = (int(v) for v in where.target.corners)
    content = image
    if image.size != (right - left, bottom - top):
        content = image.resize((right - left, bottom - top), Image.Resampling.LANCZOS, box=where.source.corners)
    if content.size == (quadrant.width, quadrant.height):
        return content, where
    margins = ((top, quadrant.height - bottom), (left, quadrant.width - right), (0, 0))
    return Image.fromarray(np.pad(np.asarray(content), margins, mode="edge")), where


def restore(quadrant: Image.Image, where: Placement) -> Image.Image:
    """The inverse of `fit_image`: the original size and proportions back.

    After `crop` only the centre of the original was ever in the quadrant: it comes back at the centre's own size.
    """
    size = (
        max(1, round(where.source.right - where.source.left)),
        max(1, round(where.source.bottom - where.source.top)),
    )
    content = content_of(quadrant, where)
    return content if content.size == size else content.resize(size, Image.Resampling.LANCZOS)


def content_of(quadrant: Image.Image, where: Placement) -> Image.Image:
    """The quadrant without its padding, at its own size."""
    left, top, right, bottom = (int(v) for v in where.target.corners)
    return quadrant.crop((left, top, right, bottom))


def check_exemplar(a: Size, a2: Size, tolerance: float) -> None:
    """Refuse an exemplar pair whose aspects differ: the quadrants would show a crop, not the edit.

    Raises:
        ValueError: |log(aspect a / aspect a')| above `tolerance` (0.05 is about 5 %).
    """
    difference = abs(math.log((a.width / a.height) / (a2.width / a2.height)))
    if difference > tolerance:
        raise ValueError(
            f"a has {a.width}x{a.height} px and a' has {a2.width}x{a2.height} px: their aspects differ by a factor of "
            f"{math.exp(difference):.2f}, at most {math.exp(tolerance):.2f} is allowed; crop one of them to the other"
        )


def quadrant_like(original: Size, side: int, multiple: int) -> Size:
    """A quadrant of about side x side px in area with the aspect of `original`; both axes multiples of `multiple`."""
    aspect = math.sqrt(original.width / original.height)

    def snap(length: float) -> int:
        return max(multiple, round(length / multiple) * multiple)

    return Size(snap(side / aspect), snap(side * aspect))


def compose(a: Image.Image, a2: Image.Image, b: Image.Image, b2: Image.Image) -> Image.Image:
    """The grid [a, a2; b, b2] of four RGB images of one size."""
    assert a.size == a2.size == b.size == b2.size, f"quadrants differ: {a.size}, {a2.size}, {b.size}, {b2.size}"
    grid = Image.new("RGB", (2 * a.width, 2 * a.height))
    for index, image in enumerate((a, a2, b, b2)):
        grid.paste(image, (index % 2 * a.width, index // 2 * a.height))
    return grid


def control_grid(a: Image.Image, a2: Image.Image, b: Image.Image) -> Image.Image:
    """[a, a2; b, b]: what the base sees as its context image."""
    return compose(a, a2, b, b)


def quadrant_of(grid: Image.Image, row: int, column: int) -> Image.Image:
    """One quadrant of a grid image; row and column are 0 or 1."""
    assert row in (0, 1) and column in (0, 1) and grid.width % 2 == 0 and grid.height % 2 == 0
    w, h = grid.width // 2, grid.height // 2
    return grid.crop((column * w, row * h, (column + 1) * w, (row + 1) * h))


def compose_latents(a_BChw: Tensor, a2_BChw: Tensor, b_BChw: Tensor, b2_BChw: Tensor) -> Tensor:
    """The grid [a, a2; b, b2] of four latents [B, C, h, w] -> [B, C, 2h, 2w]."""
    parts = (a_BChw, a2_BChw, b_BChw, b2_BChw)
    assert len({tuple(p.shape) for p in parts}) == 1, f"quadrants differ: {[tuple(p.shape) for p in parts]}"
    top, bottom = torch.cat(parts[:2], dim=-1), torch.cat(parts[2:], dim=-1)
    return torch.cat([top, bottom], dim=-2)


def control_latents(a_BChw: Tensor, a2_BChw: Tensor, b_BChw: Tensor) -> Tensor:
    """[a, a2; b, b] of latents [B, C, h, w] -> [B, C, 2h, 2w]."""
    return compose_latents(a_BChw, a2_BChw, b_BChw, b_BChw)


def quadrant_of_latents(grid_BCHW: Tensor, row: int, column: int) -> Tensor:
    """One quadrant [B, C, h, w] (a view) of a latent grid; row and column are 0 or 1."""
    H, W = grid_BCHW.shape[-2:]
    assert row in (0, 1) and column in (0, 1) and H % 2 == 0 and W % 2 == 0, (row, column, H, W)
    h, w = H // 2, W // 2
    return grid_BCHW[..., row * h : (row + 1) * h, column * w : (column + 1) * w]
