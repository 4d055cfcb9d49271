"""Any folder of images, searched recursively, with captions beside the images, in an index, or none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import field_validator

from lorweb.config_errors import unknown_name
from lorweb.data.decode import decode_rgb, large_enough, square
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.data.readers.captions import (
    CAPTION_SUFFIXES,
    SIDECAR_BYTES,
    IndexConfig,
    own_facts,
    read_index,
    sidecar_caption,
)
from lorweb.data.readers.files import Found, beside, listed, printable, read_at_most, read_file, scan, shown
from lorweb.storage.fetched import fetched

_WORDS: Final = ("none", "sidecar")


class FolderConfig(ReaderSection):
    """`name`: what origins and subjects call the folder; `licence` holds for the whole of it: an SPDX identifier where
    there is one.

    `captions`: none; sidecar (NAME.txt or NAME.json beside the image); or an index file, whose rows then say which
    images there are.
    """

    ROWS: ClassVar = ("licence", "captions")

    reader: Literal["folder"]
    name: str
    path: str
    licence: str
    captions: Literal["none", "sidecar"] | IndexConfig

    @field_validator("captions", mode="before")
    @classmethod
    def _known(cls, captions: Any) -> Any:
        if isinstance(captions, str) and captions not in _WORDS:
            raise ValueError(unknown_name("word", captions, _WORDS) + ", or {index: FILE, path: COLUMN, ...}")
        return captions


class FolderReader:
    """Every file under a folder is a location, but for captions and hidden files: no image means a reject.

    Raises:
        ValueError: the folder does not exist.
    """

    def __init__(self, cfg: FolderConfig) -> None:
        self.cfg = cfg
        self.root = existing_folder(cfg.path)

    def locations(self) -> Iterator[Location]:
        """Files by folder and name, or in the order of the index. Links to folders are rejects: they may lead in
        circles.
        """
        if isinstance(self.cfg.captions, IndexConfig):
            yield from self._indexed(self.cfg.captions)
            return
        for files in scan(self.root):
            images, captions = sidecars(files)
            for file in images:
                known: dict[str, Any] = {"file": file.state}
                if self.cfg.captions == "sidecar" and file.stem in captions:
                    said = captions[file.stem]
                    known["sidecar"] = [Path(said.name).suffix, *said.state]
                yield self._location(file, known)
            for file in without_image(images, captions):
                why = ("no_image", f"{shown(file.name)} has the name of a caption, but no image has its name")
                yield self._location(Found(file.name, file.path, fault=file.fault or why), {})

    def _location(self, file: Found, known: dict[str, Any]) -> Location:
        return Location(f"folder:{self.cfg.name}/{printable(file.name)}", file.path, known, file.fault)

    def _indexed(self, cfg: IndexConfig) -> Iterator[Location]:
        for row in read_index(cfg):
            if row.path is None:
                yield Location(f"folder:{self.cfg.name}/row {row.number} of the index", "", {"file": []}, row.fault)
            else:
                file = listed(self.root, row.path)
                yield self._location(file, {"file": file.state, "told": row.told})

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:
        """Centred square of one file. Raises `Rejected` (see `decode_rgb`; `too_small` under a side of `size` / 4)."""
        image = large_enough(decode_rgb(read_file(location.uri, max_pixels), max_pixels), size)
        told = dict(location.known.get("told", {}))
        if "sidecar" in location.known:
            suffix = location.known["sidecar"][0]
            path = beside(location.uri, suffix)
            told["caption"] = sidecar_caption(read_at_most(path, SIDECAR_BYTES), suffix.lower(), Path(path).name)
        name = location.origin.partition(":")[2]
        facts = own_facts(told, Facts(f"file:{name}", "photo", "", self.cfg.licence))
        return source_row(location, square(image, size), facts)


def existing_folder(path: str) -> Path:
    """The folder. Raises ValueError where there is none."""
    folder = fetched(path)
    if not folder.is_dir():
        raise ValueError(f"image folder '{path}' does not exist; correct collect.readers.path or create it")
    return folder


def sidecars(files: list[Found]) -> tuple[list[Found], dict[str, Found]]:
    """The files of one folder that should be images, and the captions by stem. A .txt goes before a .json."""
    captions = {file.stem: file for file in files if file.suffix in CAPTION_SUFFIXES}  # sorted: .txt comes last
    return [file for file in files if file.suffix not in CAPTION_SUFFIXES], captions


def without_image(images: list[Found], captions: dict[str, Found]) -> list[Found]:
    """Captions whose stem no image has."""
    stems = {file.stem for file in images}
    return [file for stem, file in captions.items() if stem not in stems]
