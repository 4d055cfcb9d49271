"""Folders of pairs: before/NAME and after/NAME, or NAME_before and NAME_after; every folder of them is a task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, field_validator

from lorweb.config_errors import unknown_name
from lorweb.data.decode import decode_rgb
from lorweb.data.readers.base import Edit, Facts, GivenPair, Location, ReaderSection, edit_type_of
from lorweb.data.readers.captions import CAPTION_SUFFIXES, SIDECAR_BYTES, sidecar_caption
from lorweb.data.readers.files import Found, printable, read_at_most, read_file, scan, shown
from lorweb.data.readers.folder import existing_folder
from lorweb.data.readers.halves import BY_CONTENT, Halves, pair_row, same_shape
from lorweb.data.rejects import Rejected
from lorweb.sections import EditType, Section

_WORDS: Final = ("sidecar", "folder")
SIDES: Final = ("before", "after")
FOR_ALL: Final = "instruction"  # stem of the file that speaks for every pair of its task


class FixedInstruction(Section):
    """The same words for every pair."""

    text: Annotated[str, Field(min_length=1)]


class PairsConfig(ReaderSection):
    """`instruction`: sidecar (NAME.txt or .json beside either image, else instruction.txt of the task's folder), folder
    (the name of the task's folder), or {text: WORDS}. `edit_types`: {pattern of task ids: type}. `aspect_tolerance`:
    share by which width / height of the two images may differ.
    """

    ROWS: ClassVar = ("licence", "edit_types", "aspect_tolerance")

    reader: Literal["pairs"]
    name: str
    path: str
    licence: str
    instruction: Literal["sidecar", "folder"] | FixedInstruction
    edit_types: dict[str, EditType]
    aspect_tolerance: Annotated[float, Field(ge=0)]

    @field_validator("instruction", mode="before")
    @classmethod
    def _known(cls, instruction: Any) -> Any:
        if isinstance(instruction, str) and instruction not in _WORDS:
            raise ValueError(unknown_name("word", instruction, _WORDS) + ", or {text: WORDS}")
        return instruction


class PairsReader:
    """Pairs by their place: the task is "<name>/<folder>", the folder being that of the pair without before/ or after/.

    Raises:
        ValueError: the folder does not exist.
    """

    def __init__(self, cfg: PairsConfig) -> None:
        self.cfg = cfg
        self.root = existing_folder(cfg.path)

    def locations(self) -> Iterator[Location]:
        """Pairs by task and name. Half pairs (`no_before`, `no_after`), pairs that nothing is said of
        (`no_instruction`), images that are neither (`not_a_pair`) and second images of one name (`duplicate_name`) come
        as locations with a fault.
        """
        tasks: dict[str, dict[str, dict[str, Found]]] = {}  # task folder -> name -> side or "said" -> file
        for files in scan(self.root):
            for file in files:
                folder, name, side = place_of(file)
                role = "said" if file.suffix in CAPTION_SUFFIXES else side
                slots = tasks.setdefault(folder, {}).setdefault(name, {})
                if role is None:
                    why = f"{shown(file.name)} lies in neither before/ nor after/, and its name ends in neither"
                    yield self._location(file.name, {}, file.fault or ("not_a_pair", why))
                elif role in slots and role != "said":
                    why = f"{shown(file.name)} has the name of {shown(slots[role].name)}, which stays"
                    yield self._location(file.name, {}, ("duplicate_name", why))
                else:
                    slots.setdefault(role, file)
        for folder, names in tasks.items():
            for_all = names.get(FOR_ALL, {}).get("said")
            for name, slots in names.items():
                yield from self._pair(folder, name, slots, for_all)

    def _pair(self, folder: str, name: str, slots: dict[str, Found], for_all: Found | None) -> Iterator[Location]:
        place = f"{folder}/{name}" if folder else name
        there = [side for side in SIDES if side in slots]
        fault = next((slots[side].fault for side in there if slots[side].fault), None)
        if not there:
            if "said" in slots and name != FOR_ALL:
                why = f"{shown(slots['said'].name)} has the name of a sidecar, but no image has its name"
                yield self._location(slots["said"].name, {}, ("no_image", why))
            return
        if len(there) == 1 and fault is None:
            missing, check = ("after", "no_after") if there[0] == "before" else ("before", "no_before")
            fault = (check, f"{shown(slots[there[0]].name)} has no image '{missing}' of its name")
        known: dict[str, Any] = {"task": printable(f"{self.cfg.name}/{folder}" if folder else self.cfg.name)}
        for side in there:
            known[side] = [slots[side].name, *slots[side].state]
        said = slots.get("said", for_all)
        if self.cfg.instruction == "sidecar" and said is not None:
            known["said"] = [said.name, *said.state]
            fault = fault or said.fault
        elif self.cfg.instruction == "sidecar" and fault is None:
            fault = ("no_instruction", f"{shown(place)} has neither a sidecar nor an {FOR_ALL}.txt in its folder")
        yield self._location(place, known, fault)

    def _location(self, name: str, known: dict[str, Any], fault: tuple[str, str] | None) -> Location:
        return Location(f"pairs:{self.cfg.name}/{printable(name)}", "", {"file": [], **known}, fault)

    def read(self, location: Location, size: int, max_pixels: int) -> GivenPair:
        """Both images of a pair. Raises `Rejected` (see `decode_rgb`; `aspect`, `too_small`, `no_instruction`)."""
        known = location.known
        paths = {role: f"{self.root}/{known[role][0]}" for role in (*SIDES, "said") if role in known}
        said = self._instruction(known["task"], paths.get("said"))
        images = [decode_rgb(read_file(paths[side], max_pixels), max_pixels) for side in SIDES]
        halves = same_shape(Halves(*images), self.cfg.aspect_tolerance)
        edit = Edit(known["task"], edit_type_of(known["task"], self.cfg.edit_types), said)
        return pair_row(location, halves, size, Facts(BY_CONTENT, "photo", "", self.cfg.licence), edit)

    def _instruction(self, task: str, path: str | None) -> str:
        if isinstance(self.cfg.instruction, FixedInstruction):
            return self.cfg.instruction.text
        if path is None:
            return task.rpartition("/")[2].replace("_", " ").replace("-", " ")
        name = Path(path).name
        text = sidecar_caption(read_at_most(path, SIDECAR_BYTES), Path(path).suffix.lower(), name)
        if not text:
            raise Rejected("no_instruction", f"{shown(name)} is empty")
        return text


def place_of(file: Found) -> tuple[str, str, str | None]:
    """(folder of the task, name of the pair, side) of a file; the side is None where its place tells none."""
    parts = file.stem.split("/")
    for side in SIDES:
        if side in parts[:-1]:
            at = len(parts) - 2 - parts[-2::-1].index(side)  # the innermost folder of that name
            return "/".join(parts[:at]), "/".join(parts[at + 1 :]), side
    for side in SIDES:
        if parts[-1].endswith(f"_{side}") and parts[-1] != f"_{side}":
            return "/".join(parts[:-1]), parts[-1].removesuffix(f"_{side}"), side
    return "/".join(parts[:-1]), parts[-1], None
