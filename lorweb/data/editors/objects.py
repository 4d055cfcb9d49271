"""Object edits: something is put on or behind the subject. Drawings are ours, in a 100 x 100 view box."""

# ruff: noqa: ARG001 - every edit has the one signature `Apply`, whether it draws on all of it or not

from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image

from lorweb.data.avatars import avatar_of, rasterise, render
from lorweb.data.editors.base import Args, Choice, Edit, Number, SourceInfo, picture, pixels
from lorweb.data.editors.colour import colour_of

_STAR: Final = "M50 3 61 37 97 37 68 58 79 93 50 72 21 93 32 58 3 37 39 37Z"
_HEART: Final = "M50 90C10 60 0 40 6 22 14 2 42 2 50 26 58 2 86 2 94 22 100 40 90 60 50 90Z"
_RAYS: Final = "".join(f"<path d='M50 0 56 20H44Z' transform='rotate({a} 50 50)'/>" for a in range(0, 360, 45))

# name -> (drawing, centre x, centre y, side), the last three as shares of the image side
_THINGS: Final = {
    "star": (f"<path d='{_STAR}' fill='#ffd91a' stroke='#7a5200' stroke-width='5'/>", 0.2, 0.2, 0.36),
    "heart": (f"<path d='{_HEART}' fill='#f0123c' stroke='#fff' stroke-width='6'/>", 0.8, 0.8, 0.36),
    "balloon": (
        "<path d='M50 66Q42 82 52 99' stroke='#333' stroke-width='4' fill='none'/>"
        "<ellipse cx='50' cy='35' rx='29' ry='33' fill='#19a7f0' stroke='#05406b' stroke-width='4'/>"
        "<ellipse cx='40' cy='23' rx='7' ry='10' fill='#fff' opacity='.8'/>",
        0.8,
        0.3,
        0.56,
    ),
    "sun": (f"<g fill='#ffb300'>{_RAYS}<circle cx='50' cy='50' r='27' fill='#ffe11a'/></g>", 0.8, 0.2, 0.4),
    "moon": (
        "<path d='M66 8A44 44 0 1 0 92 76 38 38 0 1 1 66 8Z' fill='#fff3b0' stroke='#444' stroke-width='3'/>",
        0.2,
        0.2,
        0.38,
    ),
    "crown": (
        "<path d='M6 88 2 28 28 54 50 12 72 54 98 28 94 88Z' fill='#ffc400' stroke='#8a5a00' stroke-width='5'/>"
        "<circle cx='50' cy='70' r='8' fill='#e01b4c'/>",
        0.5,
        0.17,
        0.42,
    ),
    "tree": (
        "<rect x='42' y='66' width='16' height='34' fill='#6b3e1d'/>"
        "<path d='M50 0 88 72H12Z' fill='#138a36' stroke='#063' stroke-width='4'/>",
        0.2,
        0.7,
        0.56,
    ),
}
_BUBBLE: Final = (
    "<path d='M8 8H92V62H48L26 92 30 62H8Z' fill='#fff' stroke='#111' stroke-width='5'/>"
    "<g fill='#111'><circle cx='30' cy='35' r='6'/><circle cx='50' cy='35' r='6'/><circle cx='70' cy='35' r='6'/></g>"
)


@lru_cache(maxsize=32)
def _drawing(body: str, side: int) -> Image.Image:
    return rasterise(f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 100 100'>{body}</svg>", side)


def _put(image: Image.Image, body: str, place: tuple[float, float, float]) -> Image.Image:
    """Lay a drawing over the image; `place` is (centre x, centre y, side) in shares."""
    x, y, share = place
    size = image.width
    side = round(share * size)
    layer = _drawing(body, side)
    canvas = image.copy()
    canvas.paste(layer, (round(x * size - side / 2), round(y * size - side / 2)), layer)
    return canvas


def _add(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    body, x, y, side = _THINGS[args.text("thing")]
    return _put(image, body, (x, y, side))


def _speech_bubble(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    return _put(image, _BUBBLE, (0.72, 0.24, 0.5))


def _disc(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """A plain disc in a corner: hue and radius are its parameters."""
    axis = (np.arange(image.width, dtype=np.float32) + 0.5) / image.width
    distance = np.hypot(axis[None, :] - 0.24, axis[:, None] - 0.76)
    mask = np.clip((args.number("radius") - distance) * image.width + 0.5, 0, 1)[..., None]
    return picture(pixels(image) * (1 - mask) + np.array(colour_of(args.number("hue")), np.float32) * mask)


def _frame(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """`width` is a share of the side."""
    p = pixels(image)
    width = max(1, round(args.number("width") * image.width))
    framed = np.empty_like(p)
    framed[:] = np.array(colour_of(args.number("hue")), np.float32)
    framed[width:-width, width:-width] = p[width:-width, width:-width]
    return picture(framed)


def _vignette(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Dark corners, or with `porthole` everything outside a circle black."""
    axis = (np.arange(image.width, dtype=np.float32) + 0.5) / image.width * 2 - 1
    radius = np.hypot(axis[None, :], axis[:, None])[..., None]
    if args.text("edge") == "soft":
        return picture(pixels(image) * np.clip(1.35 - 1.05 * radius, 0.0, 1.0))
    return picture(pixels(image) * (radius < 0.85))


def _background(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
    """Drawn anew, so the outline is exact."""
    style, seed = avatar_of(source.origin)
    red, green, blue = (round(255 * c) for c in colour_of(args.number("hue"), 0.8, 0.85))
    return render(style, seed, {"backgroundColor": (f"{red:02x}{green:02x}{blue:02x}",)}, image.width)


_HUE: Final = Number(0, 359)
EDITS: Final = (
    Edit("add", "object", {"thing": Choice(tuple(_THINGS))}, _add),
    Edit("speech_bubble", "object", {}, _speech_bubble),
    Edit("disc", "object", {"hue": _HUE, "radius": Number(0.05, 0.5)}, _disc),
    Edit("frame", "object", {"hue": _HUE, "width": Number(0.02, 0.3)}, _frame),
    Edit("vignette", "object", {"edge": Choice(("soft", "hard"))}, _vignette),
    Edit("background", "object", {"hue": _HUE}, _background, draws=True),
)
