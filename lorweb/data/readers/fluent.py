"""Fluent emoji (MIT): drawings from an npm package, fetched once with `npm pack` into a cache folder."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from PIL import Image
from pydantic import Field

from lorweb.data.avatars import rasterise
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.data.rejects import Rejected

PACKAGES: Final = {"flat": "@iconify-json/fluent-emoji-flat@1.2.6", "glossy": "@iconify-json/fluent-emoji@1.2.7"}
_MEMBER: Final = "package/icons.json"
_LARGEST: Final = 200 * 2**20  # bytes of icons.json; the glossy one has about 60 MB
_SECONDS: Final = 300


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

    def locations(self) -> list[Location]:
        """The first `limit` emoji. Fetches the package if the cache lacks it.

        Raises:
            ValueError: npm is missing, or the package cannot be had.
        """
        path = Path(self.cfg.cache) / f"fluent-{self.cfg.drawing}.json"
        if not path.is_file():
            _fetch(PACKAGES[self.cfg.drawing], path)
        names = sorted(_icons(str(path))["icons"])[: self.cfg.limit]
        return [Location(f"fluent:{self.cfg.drawing}:{name}", str(path)) for name in names]

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:  # noqa: ARG002
        """Draw one emoji. Raises `Rejected` (check `unreadable`)."""
        _, drawing, name = location.origin.split(":")
        icons = _icons(location.uri)
        try:
            body, side = icons["icons"][name]["body"], icons.get("width", 32)
            svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {side} {side}'>{body}</svg>"
            glyph = rasterise(svg, size).convert("RGBA")
        except (KeyError, ValueError) as error:
            raise Rejected("unreadable", f"emoji '{name}' of the {drawing} set cannot be drawn: {error}") from error
        image = Image.alpha_composite(Image.new("RGBA", glyph.size, "white"), glyph).convert("RGB")
        return source_row(location, image, Facts(f"emoji:{name}", "emoji", name.replace("-", " "), "MIT"))


@lru_cache(maxsize=2)
def _icons(path: str) -> dict[str, Any]:
    icons: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return icons


def _fetch(package: str, path: Path) -> None:
    """npm package -> one file in the cache; only that member is read, nothing is unpacked."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("reader 'fluent' needs npm, which is not on this machine; install npm or remove the entry")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [npm, "pack", package, "--silent"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
            raise ValueError(f"npm could not fetch {package}: {said}; check the network or remove 'fluent'") from error
        data = _member(next(Path(folder).glob("*.tgz")))
        part = Path(folder) / "icons.json"
        part.write_bytes(data)
        os.replace(part, path)  # noqa: PTH105 - same file system: atomic


def _member(archive: Path) -> bytes:
    with tarfile.open(archive) as tar:
        member = tar.getmember(_MEMBER)
        file = tar.extractfile(member) if member.isfile() and member.size <= _LARGEST else None
        if file is None:
            raise ValueError(f"{archive.name} holds no plain {_MEMBER} of at most {_LARGEST} bytes; fetch it again")
        return file.read()
