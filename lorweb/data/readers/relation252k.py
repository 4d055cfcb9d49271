"""Relation252K as it is published: <root>/<category>/Group*/labels.json, and beside it images that hold both halves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from lorweb.data.decode import decode_rgb
from lorweb.data.readers.base import Edit, Facts, GivenPair, Location, ReaderSection, edit_type_of
from lorweb.data.readers.captions import checked_caption
from lorweb.data.readers.files import IMAGE_SUFFIXES, Found, found, printable, read_at_most, read_file, scan, shown
from lorweb.data.readers.folder import existing_folder
from lorweb.data.readers.halves import BY_CONTENT, Halves, pair_row
from lorweb.data.rejects import Rejected
from lorweb.sections import EditType

LABELS: Final = "labels.json"
KEYS: Final = ("img_name", "left_image_description", "right_image_description", "edit_instruction")
_LABELS_BYTES: Final = 1 << 26


class Relation252kConfig(ReaderSection):
    """`instruction`: pair, each pair's own; or category, the name of its category. `edit_types`: {pattern of task ids:
    type}, the first that matches; "other" where none does.
    """

    ROWS: ClassVar = ("licence", "instruction", "edit_types")

    reader: Literal["relation252k"]
    name: str
    path: str
    licence: str
    instruction: Literal["pair", "category"]
    edit_types: dict[str, EditType]


class Relation252kReader:
    """One image, one pair: the left half is before, the right half is after.

    Raises:
        ValueError: the folder does not exist.
    """

    def __init__(self, cfg: Relation252kConfig) -> None:
        self.cfg = cfg
        self.root = existing_folder(cfg.path)

    def locations(self) -> Iterator[Location]:
        """Every label in the order of its file. What is wrong with the data set comes as locations with a fault.

        Checks: `missing_labels` (a group, or a category without groups), `bad_labels` (no JSON list of objects),
        `missing_key`, `missing` (the image), `duplicate_name`, `no_label` (an image that no label names), and those of
        files that are none.
        """
        for files in scan(self.root):
            folder = files[0].name.rpartition("/")[0]
            labels = next((file for file in files if Path(file.name).name == LABELS), None)
            images = {file.name: file for file in files if file is not labels}
            if labels is not None and folder.count("/") == 1:
                yield from self._group(folder, labels, images)
            elif labels is not None:
                yield self._fault(labels, ("bad_labels", f"{shown(labels.name)} does not lie in <category>/<group>"))
            yield from self._left_over(folder, labels, images)

    def _group(self, folder: str, labels: Found, images: dict[str, Found]) -> Iterator[Location]:
        """The pairs of one labels.json; images that it names are taken out of `images`."""
        try:
            entries = _entries(labels)
        except Rejected as why:
            images.clear()  # one reject for the whole group
            yield self._fault(labels, (why.check, f"{shown(labels.name)}: {why.reason}"))
            return
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            try:
                texts = _texts(entry)
                file = self._image(folder, texts["img_name"])
                if file.name in seen:
                    raise Rejected("duplicate_name", f"{shown(texts['img_name'])} has an earlier label, which stays")
            except Rejected as why:
                place = Found(f"{labels.name}[{number}]", labels.path, labels.state)
                yield self._fault(place, (why.check, f"label {number} of {shown(labels.name)}: {why.reason}"))
                continue
            seen.add(file.name)
            images.pop(file.name, None)
            del texts["img_name"]
            known = {"file": file.state, "category": printable(folder.partition("/")[0]), **texts}
            yield Location(self._origin(file), file.path, known, file.fault)

    def _image(self, folder: str, name: str) -> Found:
        """The image of a label: its name as it is, or with a suffix of images behind it."""
        if "/" in name or name in (".", ".."):
            raise Rejected("outside", f"{shown(name)} is no name of a file beside {LABELS}")
        first = None
        for suffix in ("", *IMAGE_SUFFIXES):
            file = found(f"{folder}/{name}{suffix}", f"{self.root}/{folder}/{name}{suffix}")
            if file.fault is None or file.fault[0] != "missing":
                return file
            first = first or file
        assert first is not None
        return first

    def _left_over(self, folder: str, labels: Found | None, images: dict[str, Found]) -> Iterator[Location]:
        unnamed = [file for file in images.values() if file.fault is not None or file.suffix in IMAGE_SUFFIXES]
        if labels is None and unnamed and folder.count("/") == 1:
            why = f"no {LABELS} in {shown(folder)}, beside {len(unnamed)} images"
            yield self._fault(Found(folder, ""), ("missing_labels", why))
            return
        for file in unnamed:
            yield self._fault(file, file.fault or ("no_label", f"no label names {shown(file.name)}"))

    def _origin(self, file: Found) -> str:
        return f"relation252k:{self.cfg.name}/{printable(file.name)}"

    def _fault(self, file: Found, why: tuple[str, str]) -> Location:
        return Location(self._origin(file), file.path, {"file": file.state}, why)

    def read(self, location: Location, size: int, max_pixels: int) -> GivenPair:
        """Both halves of an image. Raises `Rejected` (see `decode_rgb`; `odd_width`, `too_small`)."""
        known = location.known
        image = decode_rgb(read_file(location.uri, max_pixels), max_pixels)
        if image.width % 2:
            raise Rejected("odd_width", f"{image.width} pixels do not part into two equal halves", image.width, None)
        middle = image.width // 2
        left, right = (image.crop((x, 0, x + middle, image.height)) for x in (0, middle))
        facts = Facts(BY_CONTENT, "photo", known["left_image_description"], self.cfg.licence)
        task = f"{self.cfg.name}/{task_name(known['category'])}"
        said = known["edit_instruction"] if self.cfg.instruction == "pair" else readable(known["category"])
        edit = Edit(task, edit_type_of(task, self.cfg.edit_types), said)
        return pair_row(location, Halves(left, right), size, facts, edit)


def _entries(labels: Found) -> list[Any]:
    if labels.fault is not None:
        raise Rejected(*labels.fault)
    try:
        held = json.loads(read_at_most(labels.path, _LABELS_BYTES).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Rejected("bad_labels", f"it is not JSON: {error}") from error
    if not isinstance(held, list):
        raise Rejected("bad_labels", f"it holds {type(held).__name__}, not a list of labels")
    return held


def _texts(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise Rejected("bad_labels", f"a label is {type(entry).__name__}, not an object with {', '.join(KEYS)}")
    for key in KEYS:
        if not isinstance(entry.get(key), str):
            raise Rejected("missing_key", f"no text under the key '{key}'")
    if not entry["img_name"] or not entry["edit_instruction"].strip():
        raise Rejected("missing_key", "'img_name' or 'edit_instruction' is empty")
    return {key: entry[key] if key == "img_name" else checked_caption(entry[key], key) for key in KEYS}


def readable(category: str) -> str:
    """The name of a category as words: "115-Colored Pencil Filter" -> "colored pencil filter"."""
    return " ".join(re.sub(r"^\d+\s*[-_]\s*", "", category).replace("_", " ").split()).lower()


def task_name(category: str) -> str:
    """The name of a category as part of a task id, its number kept: names alone need not be unique."""
    return "-".join(re.findall(r"[^\W_]+", category.lower())) or "task"
