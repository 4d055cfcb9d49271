"""Tux Paint stamps (GPL-2): photo cut-outs from a Debian package, unpacked into a cache folder, never committed."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from lorweb.data.decode import decode_rgb, large_enough, square
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.data.rejects import Rejected
from lorweb.storage.fetched import fetched

PACKAGE: Final = "tuxpaint-stamps-default"
_STAMPS: Final = Path("usr/share/tuxpaint/stamps")
_SECONDS: Final = 900


class TuxpaintConfig(ReaderSection):
    """`limit`: how many stamps, in order of path; `cache`: folder for the unpacked package (170 MB)."""

    reader: Literal["tuxpaint"]
    limit: Annotated[int, Field(ge=1)]
    cache: str


class TuxpaintReader:
    """Raster stamps on white, category "photo"; the caption is the first line of the stamp's own description."""

    def __init__(self, cfg: TuxpaintConfig) -> None:
        self.cfg, self.cache = cfg, fetched(cfg.cache)

    def locations(self) -> list[Location]:
        """The first `limit` PNG stamps. Fetches the package if the cache lacks it.

        Raises:
            ValueError: apt-get or dpkg-deb is missing, or the package cannot be had.
        """
        root = self.cache / PACKAGE
        if not root.is_dir():
            _fetch(root)
        stamps = root / _STAMPS
        names = sorted(path.relative_to(stamps).as_posix() for path in stamps.rglob("*.png"))
        return [Location(f"tuxpaint:{name}", str(stamps / name)) for name in names[: self.cfg.limit]]

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:
        """Centred square of one stamp. Raises `Rejected` (see `decode_rgb`, and `too_small`)."""
        path = Path(location.uri)
        try:
            image = decode_rgb(path.read_bytes(), max_pixels)
        except OSError as error:
            raise Rejected("unreadable", f"cannot read {path.name}: {error.strerror}") from error
        name = location.origin.partition(":")[2]
        facts = Facts(f"stamp:{name}", "photo", _caption(path), "GPL-2.0-or-later")
        return source_row(location, square(large_enough(image, size), size), facts)


def _caption(path: Path) -> str:
    try:
        lines = path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[0].strip() if lines else ""


def _fetch(root: Path) -> None:
    """Debian package -> folder `root`, which appears only when it is whole."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ValueError(f"reader 'tuxpaint' needs {tool}, which only Debian systems have; remove the entry")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        _run(["apt-get", "download", PACKAGE], folder)
        archive = next(Path(folder).glob("*.deb")).name
        _run(["dpkg-deb", "-x", archive, "unpacked"], folder)
        os.replace(Path(folder, "unpacked"), root)  # noqa: PTH105 - same file system: atomic


def _run(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
        raise ValueError(f"`{' '.join(command)}` failed: {said}; check the network or remove 'tuxpaint'") from error
