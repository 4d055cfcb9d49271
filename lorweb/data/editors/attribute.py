"""Attribute edits: one part of an avatar changes, everything else is drawn exactly as before."""

# ruff: noqa: ARG001 - every edit has the one signature `Apply`, whether it draws on all of it or not

from collections.abc import Mapping
from typing import Final

import numpy as np
from PIL import Image

from lorweb.data.avatars import Options, avatar_of, render
from lorweb.data.editors.base import Apply, Args, Choice, Edit, Number, SourceInfo
from lorweb.data.editors.colour import colour_of
from lorweb.data.rejects import Rejected

Table = Mapping[str, Mapping[str, Options]]  # kind -> style -> changed options

MOUTHS: Final[Table] = {
    "frown": {s: {"mouthVariant": ("frown",)} for s in ("critters", "clay", "sprouts", "moods")},
    "open": {
        "thumbs": {"mouthVariant": ("variant02",)},
        "moods": {"mouthVariant": ("gasp",)},
        **{s: {"mouthVariant": ("open",)} for s in ("critters", "sprouts")},
    },
    "teeth": {
        "critters": {"mouthVariant": ("teeth",)},
        "clay": {"mouthVariant": ("toothy",)},
        "moods": {"mouthVariant": ("teeth",)},
        "cutouts": {"mouthVariant": ("grin",)},
    },
}
EYES: Final[Table] = {
    "closed": {
        "thumbs": {"eyesVariant": ("variant07",)},
        "clay": {"eyesVariant": ("happy",)},
        **{s: {"eyesVariant": ("closed",)} for s in ("critters", "sprouts", "moods")},
    },
    "wink": {
        "thumbs": {"eyesVariant": ("variant08",)},
        **{s: {"eyesVariant": ("wink",)} for s in ("critters", "clay", "sprouts", "moods")},
    },
    "angry": {s: {"eyesVariant": ("angry",)} for s in ("critters", "sprouts", "moods")},
    "one": {s: {"eyesVariant": ("mono",)} for s in ("critters", "clay")},
}
TOPS: Final[Table] = {
    kind: {
        "critters": {"topProbability": 100, "topVariant": (critter,)},
        "clay": {"topProbability": 100, "topVariant": (clay,)},
    }
    for kind, critter, clay in (
        ("horns", "horns", "horns"),
        ("antennae", "antennae", "antenna"),
        ("ears", "earsRound", "ears"),
        ("spikes", "spikes", "spikes"),
    )
}
PLANTS: Final[Table] = {k: {"sprouts": {"plantVariant": (k,)}} for k in ("cactus", "palm", "ball")}
FACES: Final[Table] = {"square": {"moods": {"faceVariant": ("squircle",)}}}
WEAR: Final[Table] = {
    "glasses": {"pixel-art": {"glassesProbability": 100, "glassesVariant": ("dark05",), "glassesColor": ("222222",)}},
    "hat": {"pixel-art": {"hatProbability": 100, "hatVariant": ("variant02",), "hatColor": ("d0202a",)}},
}
BEARDS: Final[Table] = {"full": {"pixel-art": {"beardProbability": 100, "beardVariant": ("variant03",)}}}
HAIR: Final[Table] = {
    "long": {"pixel-art": {"hairVariant": ("long01",)}, "cutouts": {"hairVariant": ("long",)}},
}
RINGS: Final[Table] = {"ring": {"planets": {"ringProbability": 100, "ringVariant": ("bold",)}}}
SKIES: Final[Table] = {
    "no-sun": {"landscape": {"orbProbability": 0}},
    "dark": {"landscape": {"backgroundColor": ("0b1030",), "orbColor": ("fffbe0",)}},
}

# style -> the options that hold the colour of its body, of its hair
BODY: Final[Mapping[str, tuple[str, ...]]] = {
    "thumbs": ("shapeColor",),
    "critters": ("bodyColor",),
    "clay": ("bodyColor",),
    "sprouts": ("potColor",),
    "moods": ("faceColor",),
    "cutouts": ("paperFaceColor",),
    "planets": ("planetColor",),
}
HAIR_COLOUR: Final[Mapping[str, tuple[str, ...]]] = {"pixel-art": ("hairColor",), "cutouts": ("paperHairColor",)}


def _swap(table: Table) -> Apply:
    """An edit that looks up which options to change for `kind` and the avatar's style."""

    def apply(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
        style, seed = avatar_of(source.origin)
        kind = args.text("kind")
        if style not in table[kind]:
            raise Rejected(
                "unfit", f"avatars of style {style} have no '{kind}'; styles that have: {', '.join(table[kind])}"
            )
        return render(style, seed, table[kind][style], image.width)

    return apply


def _recolour(options: Mapping[str, tuple[str, ...]]) -> Apply:
    """An edit that sets the colour of one part to a hue in degrees."""

    def apply(image: Image.Image, source: SourceInfo, rng: np.random.Generator, args: Args) -> Image.Image:
        style, seed = avatar_of(source.origin)
        if style not in options:
            raise Rejected(
                "unfit", f"avatars of style {style} lack this part; styles that have it: {', '.join(options)}"
            )
        red, green, blue = (round(255 * c) for c in colour_of(args.number("hue"), 0.8, 0.92))
        return render(style, seed, dict.fromkeys(options[style], (f"{red:02x}{green:02x}{blue:02x}",)), image.width)

    return apply


def _part(name: str, table: Table) -> Edit:
    return Edit(name, "attribute", {"kind": Choice(tuple(table))}, _swap(table), draws=True)


EDITS: Final = (
    _part("mouth", MOUTHS),
    _part("eyes", EYES),
    _part("top", TOPS),
    _part("plant", PLANTS),
    _part("face", FACES),
    _part("wear", WEAR),
    _part("beard", BEARDS),
    _part("hair", HAIR),
    _part("ring", RINGS),
    _part("sky", SKIES),
    Edit("body_colour", "attribute", {"hue": Number(0, 359)}, _recolour(BODY), draws=True),
    Edit("hair_colour", "attribute", {"hue": Number(0, 359)}, _recolour(HAIR_COLOUR), draws=True),
)
