"""Geometry edits: pixels move, colours stay."""

# ruff: noqa: ARG001 - every edit has the one signature `Apply`, whether it draws on all of it or not

from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from lorweb.data.editors.base import Args, Choice, Edit, Number, SourceInfo

_WHITE: Final = (255, 255, 255)


def _flip(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return ImageOps.mirror(image) if args.text("axis") == "horizontal" else ImageOps.flip(image)


def _rotate(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Clockwise; corners white."""
    return image.rotate(-args.number("degrees"), Image.Resampling.BICUBIC, fillcolor=_WHITE)


def _zoom(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """About the centre; below 1 the image shrinks on white."""
    factor, size = args.number("factor"), image.width
    if factor >= 1:
        margin = size * (1 - 1 / factor) / 2
        return image.resize(image.size, Image.Resampling.BICUBIC, box=(margin, margin, size - margin, size - margin))
    small = round(size * factor)
    canvas = Image.new("RGB", image.size, _WHITE)
    canvas.paste(image.resize((small, small), Image.Resampling.LANCZOS), ((size - small) // 2, (size - small) // 2))
    return canvas


def _shift(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Right, as a share of the width; what leaves comes in again on the other side."""
    return Image.fromarray(np.roll(np.asarray(image), round(args.number("share") * image.width), axis=1))


def _tile(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    count, size = int(args.number("count")), image.width
    edges = [round(i * size / count) for i in range(count + 1)]
    canvas = Image.new("RGB", image.size)
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            canvas.paste(image.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    return canvas


def _mirror_half(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """The left or upper half, and its mirror image."""
    a = np.asarray(image).copy()
    half = image.width // 2
    if args.text("half") == "left":
        a[:, -half:] = a[:, :half][:, ::-1]
    else:
        a[-half:] = a[:half][::-1]
    return Image.fromarray(a)


def _kaleidoscope(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    _, _, radius, angle = _polar(image.width)
    wedge = 2 * np.pi / args.number("sectors")
    folded = np.abs((angle + np.pi) % wedge - wedge / 2)
    return _sample(image, radius * np.cos(folded + np.pi / 5), radius * np.sin(folded + np.pi / 5))


def _swirl(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    _, _, radius, angle = _polar(image.width)
    turned = angle + np.deg2rad(args.number("degrees")) * np.clip(1 - radius, 0, 1) ** 2
    return _sample(image, radius * np.cos(turned), radius * np.sin(turned))


def _bulge(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """A fish-eye lens over the middle: strength 1 magnifies the centre most."""
    _, _, radius, angle = _polar(image.width)
    inside = np.clip(radius, 0, 1) ** (1 + args.number("strength"))
    pulled = np.where(radius < 1, inside, radius)
    return _sample(image, pulled * np.cos(angle), pulled * np.sin(angle))


def _waves(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    x, y, _, _ = _polar(image.width)
    return _sample(image, x + args.number("height") * np.sin(y * 3 * np.pi), y)


def _polar(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y in -1..1, radius and angle of every pixel centre."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return x, y, np.hypot(x, y), np.arctan2(y, x)


def _sample(image: Image.Image, x: np.ndarray, y: np.ndarray) -> Image.Image:
    """The image at points in -1..1; outside it is mirrored."""
    import cv2

    size = image.width
    to_pixel = [np.asarray((v + 1) * size / 2 - 0.5, np.float32) for v in (x, y)]
    moved = cv2.remap(np.asarray(image), to_pixel[0], to_pixel[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return Image.fromarray(np.asarray(moved))


EDITS: Final = (
    Edit("flip", "geometry", {"axis": Choice(("horizontal", "vertical"))}, _flip),
    Edit("rotate", "geometry", {"degrees": Number(1, 359)}, _rotate),
    Edit("zoom", "geometry", {"factor": Number(0.2, 6)}, _zoom),
    Edit("shift", "geometry", {"share": Number(0.05, 0.95)}, _shift),
    Edit("tile", "geometry", {"count": Number(2, 8, whole=True)}, _tile),
    Edit("mirror_half", "geometry", {"half": Choice(("left", "top"))}, _mirror_half),
    Edit("kaleidoscope", "geometry", {"sectors": Number(4, 12, whole=True)}, _kaleidoscope),
    Edit("swirl", "geometry", {"degrees": Number(30, 720)}, _swirl),
    Edit("bulge", "geometry", {"strength": Number(0.2, 2)}, _bulge),
    Edit("waves", "geometry", {"height": Number(0.02, 0.3)}, _waves),
)
