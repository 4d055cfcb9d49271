"""Colour edits: pointwise functions of the pixel."""

# ruff: noqa: ARG001 - every edit has the one signature `Apply`, whether it draws on all of it or not

import colorsys
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from lorweb.data.editors.base import Args, Choice, Edit, Number, SourceInfo, picture, pixels

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_DUOTONES: Final = {
    "purple-orange": ((0.22, 0.02, 0.42), (1.0, 0.72, 0.2)),
    "blue-yellow": ((0.0, 0.1, 0.5), (1.0, 0.95, 0.4)),
    "green-pink": ((0.0, 0.25, 0.15), (1.0, 0.65, 0.8)),
}


def _grey(image: Image.Image) -> np.ndarray:
    """[H, W, 1] luma in 0..1."""
    return (pixels(image) @ _LUMA)[..., None]


def colour_of(hue: float, saturation: float = 0.85, value: float = 0.9) -> tuple[float, float, float]:
    """RGB in 0..1 of a hue in degrees."""
    return colorsys.hsv_to_rgb((hue % 360.0) / 360.0, saturation, value)


def _hue(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    h, s, v = image.convert("HSV").split()
    turned = (np.asarray(h, np.int32) + round(args.number("degrees") / 360.0 * 256)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), s, v)).convert("RGB")


def _tint(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    strength = args.number("strength")
    tinted = (0.25 + 0.75 * _grey(image)) * np.array(colour_of(args.number("hue")), np.float32)
    return picture((1 - strength) * pixels(image) + strength * tinted)


def _brightness(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(args.number("factor"))


def _contrast(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return picture(0.5 + (pixels(image) - 0.5) * args.number("factor"))


def _saturation(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return ImageEnhance.Color(image).enhance(args.number("factor"))


def _sepia(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return picture(_grey(image) ** 0.9 * np.array([1.08, 0.86, 0.62], np.float32))


def _invert(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return ImageOps.invert(image)


def _posterise(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    levels = args.number("levels")
    return picture(np.floor(pixels(image) * levels * 0.9999) / (levels - 1))


def _solarise(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return ImageOps.solarize(image, int(args.number("threshold")))


def _duotone(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    dark, light = (np.array(c, np.float32) for c in _DUOTONES[args.text("colours")])
    grey = _grey(image)
    return picture((1 - grey) * dark + grey * light)


def _swap(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return Image.merge("RGB", [image.getchannel(c) for c in args.text("order")])


def _heat(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Heat camera: black, blue, magenta, red, yellow, white along the luma."""
    stops = np.array([[0, 0, 0.1], [0.15, 0, 0.6], [0.7, 0, 0.6], [0.95, 0.25, 0.1], [1, 0.8, 0.1], [1, 1, 0.9]])
    grey, at = _grey(image)[..., 0], np.linspace(0, 1, len(stops))
    return picture(np.stack([np.interp(grey, at, stops[:, c]) for c in range(3)], axis=-1))


def _black_white(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    grey = _grey(image)
    return picture(np.repeat((grey > grey.mean()) * 1.0, 3, axis=-1))


EDITS: Final = (
    Edit("hue", "colour", {"degrees": Number(1, 359)}, _hue),
    Edit("tint", "colour", {"hue": Number(0, 359), "strength": Number(0.1, 1)}, _tint),
    Edit("brightness", "colour", {"factor": Number(0.1, 3)}, _brightness),
    Edit("contrast", "colour", {"factor": Number(0.1, 4)}, _contrast),
    Edit("saturation", "colour", {"factor": Number(0, 4)}, _saturation),
    Edit("sepia", "colour", {}, _sepia),
    Edit("invert", "colour", {}, _invert),
    Edit("posterise", "colour", {"levels": Number(2, 8, whole=True)}, _posterise),
    Edit("solarise", "colour", {"threshold": Number(32, 224, whole=True)}, _solarise),
    Edit("duotone", "colour", {"colours": Choice(tuple(_DUOTONES))}, _duotone),
    Edit("swap_channels", "colour", {"order": Choice(("RBG", "GRB", "GBR", "BRG", "BGR"))}, _swap),
    Edit("heat", "colour", {}, _heat),
    Edit("black_white", "colour", {}, _black_white),
)
