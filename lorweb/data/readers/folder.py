"""Any folder of images, searched recursively."""

import os
from pathlib import Path
from typing import Final, Literal

from lorweb.data.decode import decode_rgb, square
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.data.rejects import Rejected

_CAPTION_BYTES: Final = 4096


class FolderConfig(ReaderSection):
    """`licence` holds for the whole folder: an SPDX identifier where there is one."""

    reader: Literal["folder"]
    path: str
    licence: str


class FolderReader:
    """Every file under a folder is a location, but for captions (.txt) and hidden files: no image means a reject.

    Raises:
        ValueError: the folder does not exist.
    """

    def __init__(self, cfg: FolderConfig) -> None:
        self.cfg = cfg
        self.root = Path(cfg.path)
        if not self.root.is_dir():
            raise ValueError(f"image folder '{cfg.path}' does not exist; correct collect.readers.path or create it")

    def locations(self) -> list[Location]:
        """Files sorted by relative path. Symbolic links to folders are not followed: they may lead in circles."""
        found = []
        for folder, names, file_names in os.walk(self.root):
            names[:] = [n for n in names if not n.startswith(".")]
            found += [Path(folder, n) for n in file_names if not n.startswith(".") and not n.lower().endswith(".txt")]
        relative = sorted(path.relative_to(self.root).as_posix() for path in found)
        return [Location(f"folder:{name}", str(self.root / name)) for name in relative]

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:
        """Centred square of one file. Raises `Rejected` (see `decode_rgb`; `too_small` under a side of `size` / 4)."""
        path = Path(location.uri)
        image = decode_rgb(_bytes(path), max_pixels)
        short = min(image.size)
        if short < size / 4:
            raise Rejected("too_small", f"{image.width} x {image.height} pixels for size {size}", short, size / 4)
        facts = Facts(f"file:{location.origin.partition(':')[2]}", "photo", _caption(path), self.cfg.licence)
        return source_row(location, square(image, size), facts)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Rejected("unreadable", f"cannot read {path.name}: {error.strerror}") from error


def _caption(path: Path) -> str:
    """Text of the sidecar file beside the image, else nothing: a name like IMG_0042 is no caption."""
    try:
        with path.with_suffix(".txt").open("rb") as file:
            return " ".join(file.read(_CAPTION_BYTES).decode("utf-8", errors="replace").split())
    except OSError:
        return ""
