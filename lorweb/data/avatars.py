"""DiceBear avatars: (style, seed, changed options) -> image. Shared by the reader and by the edits that draw anew."""

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from PIL import Image

from lorweb.data.rejects import Rejected

Option = Sequence[str] | float
Options = Mapping[str, Option]

_BACKGROUNDS: Final = ("f2c879", "9fd3c7", "f4a6a6", "b7c4f5", "d7e3a4", "e7d7c9")
_HAIR_PIXEL: Final = tuple(f"short{i:02d}" for i in (2, 3, 4, 5, 6, 9, 10, 14, 15))

# Every subject starts from these: parts that an edit adds are absent, and faces are calm, so that an edit is a change.
BASE: Final[Mapping[str, Options]] = {
    "thumbs": {"eyesVariant": ("variant05", "variant06"), "mouthVariant": ("variant03", "variant04")},
    "critters": {
        "topProbability": 0,
        "eyesVariant": ("bigPupils", "round", "wide"),
        "mouthVariant": ("smile", "smirk", "tinySmile"),
    },
    "clay": {
        "scale": 1.3,
        "topProbability": 0,
        "eyesVariant": ("big", "googly", "even"),
        "mouthVariant": ("smile", "line"),
    },
    "sprouts": {
        "plantVariant": ("bush", "flower", "grass", "seedling", "sprout", "succulent", "tulip"),
        "eyesVariant": ("bigPupils", "round", "wide"),
        "mouthVariant": ("smile", "tinySmile"),
    },
    "moods": {
        "faceVariant": ("bean", "blob", "circle", "hexagon", "pebble", "tall", "wide"),
        "eyesVariant": ("bigPupils", "pupils", "tallPupils"),
        "mouthVariant": ("smile", "line"),
    },
    "cutouts": {
        "hairProbability": 100,
        "hairVariant": ("crest", "curls", "swoosh", "tufts"),
        "mouthVariant": ("smile", "strip", "tornSmile"),
        "backgroundColor": _BACKGROUNDS,
    },
    "planets": {"ringProbability": 0},
    "landscape": {"orbProbability": 100, "orbVariant": ("sun",)},
    "pixel-art": {
        "glassesProbability": 0,
        "hatProbability": 0,
        "beardProbability": 0,
        "accessoriesProbability": 0,
        "hairVariant": _HAIR_PIXEL,
        "mouthVariant": ("happy02", "happy04", "happy06", "happy08"),
        "backgroundColor": _BACKGROUNDS,
    },
}

CAPTIONS: Final[Mapping[str, str]] = {
    "thumbs": "a cartoon thumb with a face",
    "critters": "a cartoon critter",
    "clay": "a small clay creature",
    "sprouts": "a plant in a pot with a face",
    "moods": "a round cartoon face",
    "cutouts": "a paper cut-out face",
    "planets": "a planet in space",
    "landscape": "hills under the sun",
    "pixel-art": "a pixel art person",
}


def avatar_of(origin: str) -> tuple[str, str]:
    """(style, seed) of a source origin "dicebear:<style>:<seed>".

    Raises:
        Rejected: check `not_an_avatar`, the origin is another reader's.
    """
    reader, _, rest = origin.partition(":")
    style, _, seed = rest.partition(":")
    if reader != "dicebear" or style not in BASE or not seed:
        raise Rejected("not_an_avatar", f"'{origin}' is no avatar, so it has no attribute to change")
    return style, seed


def render(style: str, seed: str, changes: Options, size: int) -> Image.Image:
    """Draw an avatar as RGB `size` x `size`: base options of its style, overridden by `changes`."""
    from dicebear import Avatar

    options: dict[str, Any] = {"seed": seed, "size": size}
    for name, value in {**BASE[style], **changes}.items():
        options[name] = value if isinstance(value, (int, float)) else list(value)
    return rasterise(str(Avatar(_style(style), options)), size).convert("RGB")


def rasterise(svg: str, size: int) -> Image.Image:
    """Draw SVG text as RGBA `size` x `size`."""
    import resvg_py

    # Searching the machine's fonts is slow and makes the picture depend on the machine.
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(png))


@cache
def _style(name: str) -> Any:
    """Parsed style definition. DiceBear checks it against a schema, about a second: once per process."""
    from dicebear import Style

    return Style(json.loads((files("dicebear_styles") / f"{name}.json").read_text(encoding="utf-8")))
