"""Fluent emoji (MIT): drawings from an npm package, fetched once with `npm pack` into a cache folder."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lorweb.data.icons import draw_icon, icon_file, icon_names
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.storage.fetched import fetched


class FluentConfig(ReaderSection):
    """`limit`: how many emoji, in order of name; `cache`: folder for the package's drawings."""

    reader: Literal["fluent"]
    drawing: Literal["flat", "glossy"]
    limit: Annotated[int, Field(ge=1)]
    cache: str


class FluentReader:
    """Emoji on white; the subject is the emoji, whatever its drawing."""

    def __init__(self, cfg: FluentConfig) -> None:
        self.cfg = cfg
        fetched(cfg.cache)  # on every node that draws them

    def locations(self) -> list[Location]:
        """The first `limit` emoji. Fetches the package if the cache lacks it.

        Raises:
            ValueError: npm is missing, or the package cannot be had.
        """
        path = icon_file(self.cfg.drawing, self.cfg.cache, "reader 'fluent'")
        return [Location(f"fluent:{self.cfg.drawing}:{name}", str(path)) for name in icon_names(path)[: self.cfg.limit]]

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:  # noqa: ARG002
        """Draw one emoji. Raises `Rejected` (check `unreadable`)."""
        _, _, name = location.origin.split(":")
        image = draw_icon(Path(location.uri), name, size)
        return source_row(location, image, Facts(f"emoji:{name}", "emoji", name.replace("-", " "), "MIT"))
