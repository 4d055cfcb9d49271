"""Drawn subjects without end: DiceBear avatars, exactly re-drawable from style and seed."""

import difflib
from typing import Annotated, Literal

from pydantic import Field, field_validator

from lorweb.data.avatars import BASE, CAPTIONS, avatar_of, render
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row


class DicebearConfig(ReaderSection):
    """`seeds` avatars per style, seeds numbered from `first_seed`."""

    reader: Literal["dicebear"]
    styles: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1)]
    first_seed: Annotated[int, Field(ge=0)]

    @field_validator("styles")
    @classmethod
    def _known(cls, styles: tuple[str, ...]) -> tuple[str, ...]:
        for style in styles:
            if style not in BASE:
                near = difflib.get_close_matches(style, BASE, n=1, cutoff=0.0)[0]
                raise ValueError(f"unknown style '{style}'; did you mean '{near}'? Known: {', '.join(BASE)}")
        return styles


class DicebearReader:
    """Avatars of CC0 styles; the subject is style and seed."""

    def __init__(self, cfg: DicebearConfig) -> None:
        self.cfg = cfg

    def locations(self) -> list[Location]:
        """Every style with every seed, in that order."""
        seeds = range(self.cfg.first_seed, self.cfg.first_seed + self.cfg.seeds)
        return [Location(f"dicebear:{style}:{seed}", "") for style in self.cfg.styles for seed in seeds]

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:  # noqa: ARG002
        """Draw one. Raises `Rejected` if the origin is not an avatar's."""
        style, seed = avatar_of(location.origin)
        facts = Facts(f"avatar:{style}:{seed}", f"avatar:{style}", CAPTIONS[style], "CC0-1.0")
        return source_row(location, render(style, seed, {}, size), facts)
