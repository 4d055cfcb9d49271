"""Weather and texture edits. Sizes are shares of the image side, so that an edit looks alike at any resolution.

Patterns (flakes, drops, grain) are fixed per edit and only shift a little with the seed: an exemplar can teach a
pattern that stays, not one that is drawn anew each time.
"""

# ruff: noqa: ARG001 - every edit has the one signature `Apply`, whether it draws on all of it or not

from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lorweb.data.editors.base import Args, Choice, Edit, Number, SourceInfo, picture, pixels

_SHIFT: Final = 1 / 64  # largest shift of a pattern by the seed, share of the side
_OVER: Final = 4  # patterns are drawn larger and shrunk, for smooth edges


def _blend(image: Image.Image, colour: tuple[float, float, float], mask: np.ndarray) -> Image.Image:
    """Paint a colour through a mask [H, W] in 0..1."""
    m = mask[..., None]
    return picture(pixels(image) * (1 - m) + np.array(colour, np.float32) * m)


def _shifted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    reach = int(mask.shape[0] * _SHIFT)
    dy, dx = rng.integers(-reach, reach + 1, 2)
    return np.roll(mask, (dy, dx), axis=(0, 1))


@lru_cache(maxsize=64)
def _flakes(size: int, count: int) -> np.ndarray:
    """The first `count` of one fixed list of flakes, so that heavy snow contains light snow. [S, S] in 0..1."""
    side = size * _OVER
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for x, y, r in np.random.default_rng(7).random((count, 3)):
        radius = side * (0.012 + 0.016 * r)
        draw.ellipse((x * side - radius, y * side - radius, x * side + radius, y * side + radius), fill=245)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255


@lru_cache(maxsize=64)
def _drops(size: int, count: int) -> np.ndarray:
    """Slanted streaks, [S, S] in 0..1."""
    side = size * _OVER
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for x, y, r in np.random.default_rng(11).random((count, 3)):
        length = side * (0.12 + 0.1 * r)
        left, top = x * side * 1.2 - 0.1 * side, y * side * 1.2 - 0.1 * side
        draw.line((left, top, left - 0.35 * length, top + length), fill=230, width=max(1, round(side * 0.012)))
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255


@lru_cache(maxsize=16)
def _grain(size: int) -> np.ndarray:
    """Grain of 32 x 32 cells, [S, S], mean 0, deviation 1."""
    coarse = np.random.default_rng(13).standard_normal((32, 32)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.NEAREST))


def _snow(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    mask = _shifted(_flakes(image.width, round(400 * args.number("density"))), rng)
    return _blend(image, (1.0, 1.0, 1.0), mask)


def _rain(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    wet = picture(pixels(image) * np.array([0.62, 0.68, 0.8], np.float32))
    return _blend(wet, (0.8, 0.88, 1.0), _shifted(_drops(image.width, round(160 * args.number("density"))), rng) * 0.9)


def _fog(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    height = np.linspace(0.75, 1.0, image.height, dtype=np.float32)[:, None]
    mask = np.broadcast_to(args.number("density") * height, (image.height, image.width))
    return _blend(image, (0.86, 0.88, 0.9), mask)


def _night(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    p = pixels(image)
    grey = p.mean(axis=-1, keepdims=True)
    return picture((0.5 * p + 0.5 * grey) * np.array([0.24, 0.3, 0.62], np.float32))


def _sunset(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Purple above, orange below."""
    t = np.linspace(0, 1, image.height, dtype=np.float32)[:, None, None]
    glow = (1 - t) * np.array([0.45, 0.15, 0.55], np.float32) + t * np.array([1.0, 0.55, 0.1], np.float32)
    return picture(pixels(image) * 0.5 + glow * 0.5)


def _lightning(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    side = image.width * _OVER
    canvas = Image.new("L", (side, side))
    bolt = [(0.62, 0.0), (0.45, 0.3), (0.6, 0.34), (0.4, 0.64), (0.54, 0.68), (0.36, 1.0)]
    ImageDraw.Draw(canvas).line([(x * side, y * side) for x, y in bolt], fill=255, width=round(side * 0.035))
    mask = np.asarray(canvas.resize(image.size, Image.Resampling.BOX), np.float32) / 255
    return _blend(picture(pixels(image) * np.array([0.45, 0.45, 0.65], np.float32)), (1.0, 1.0, 0.75), mask)


def _blur(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(args.number("radius") * image.width))


def _pixelate(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    cells = int(args.number("cells"))
    return image.resize((cells, cells), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _noise(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return picture(pixels(image) + args.number("strength") * _shifted(_grain(image.width), rng)[..., None])


def _lines(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Dark stripes as on an old screen."""
    row = np.arange(image.height) * args.number("count") / image.height % 1.0
    mask = np.broadcast_to((row < 0.4)[:, None] * np.float32(0.75), (image.height, image.width))
    return _blend(image, (0.0, 0.03, 0.0), mask)


def _grid(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Mesh of white lines, as of bathroom tiles."""
    at = np.arange(image.width) * 8 / image.width % 1.0 < 0.2
    return _blend(image, (1.0, 1.0, 1.0), (at[:, None] | at[None, :]) * np.float32(0.9))


def _emboss(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Grey relief: the difference to the image a step down and to the right."""
    grey = pixels(image).mean(axis=-1)
    step = max(1, image.width // 64)
    relief = np.clip(0.5 + 1.5 * (grey - np.pad(grey, ((step, 0), (step, 0)), mode="edge")[:-step, :-step]), 0, 1)
    return picture(np.repeat(relief[..., None], 3, axis=-1))


def _edges(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Outlines alone: bright on black, or dark on white."""
    p = pixels(image)
    step = max(1, image.width // 64)
    padded = np.pad(p, ((step, 0), (step, 0), (0, 0)), mode="edge")
    slope = (np.abs(p - padded[:-step, step:]) + np.abs(p - padded[step:, :-step])).sum(axis=-1)
    strength = np.clip(1.2 * slope, 0, 1)[..., None]
    return picture(
        p * strength + strength**2 * 0.3 if args.text("ground") == "black" else np.repeat(1 - strength, 3, axis=-1)
    )


_SHARE: Final = Number(0.02, 1)
EDITS: Final = (
    Edit("snow", "weather", {"density": _SHARE}, _snow),
    Edit("rain", "weather", {"density": _SHARE}, _rain),
    Edit("fog", "weather", {"density": _SHARE}, _fog),
    Edit("night", "weather", {}, _night),
    Edit("sunset", "weather", {}, _sunset),
    Edit("lightning", "weather", {}, _lightning),
    Edit("blur", "weather", {"radius": Number(0.005, 0.2)}, _blur),
    Edit("pixelate", "weather", {"cells": Number(3, 32, whole=True)}, _pixelate),
    Edit("noise", "weather", {"strength": _SHARE}, _noise),
    Edit("scanlines", "weather", {"count": Number(4, 32, whole=True)}, _lines),
    Edit("grid", "weather", {}, _grid),
    Edit("emboss", "weather", {}, _emboss),
    Edit("edges", "weather", {"ground": Choice(("black", "white"))}, _edges),
)
