"""The evaluation set of LoRWeB: photos and, in a tree of their own, what edits made of them. Originals come apart."""

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from lorweb.data.decode import decode_rgb
from lorweb.data.readers.base import Edit, Facts, GivenPair, Location, ReaderSection, edit_type_of
from lorweb.data.readers.files import IMAGE_SUFFIXES, Found, printable, read_file, scan, shown
from lorweb.data.readers.folder import existing_folder
from lorweb.data.readers.halves import Halves, pair_row, same_shape
from lorweb.sections import EditType

ORIGINALS: Final = "original"
EDITED: Final = "decoded_random_inference_set"


class EvalsetConfig(ReaderSection):
    """`path`: the folder that holds original/ and decoded_random_inference_set/, called data/ in the published set.

    `edit_types`: {pattern of task ids: type}; `aspect_tolerance`: share by which width / height of photo and edited
    image may differ.
    """

    ROWS: ClassVar = ("licence", "edit_types", "aspect_tolerance")

    reader: Literal["evalset"]
    name: str
    path: str
    licence: str
    edit_types: dict[str, EditType]
    aspect_tolerance: Annotated[float, Field(ge=0)]


class EvalsetReader:
    """original/unsplash_<category>/<photo>.jpg, and <set>/<category>/<Prompt_with_underscores>/<photo>_<n>.png.

    Raises:
        ValueError: one of the two folders is missing.
    """

    def __init__(self, cfg: EvalsetConfig) -> None:
        self.cfg = cfg
        self.root = existing_folder(cfg.path)
        for part in (ORIGINALS, EDITED):
            if not (self.root / part).is_dir():
                raise ValueError(
                    f"no folder '{part}' in '{cfg.path}'; give the folder that holds {ORIGINALS}/ and {EDITED}/, and "
                    "download the originals from where the set says they are"
                )

    def locations(self) -> Iterator[Location]:
        """Every edited image. Those whose photo is not there (`no_before`), and files in other places (`unexpected`),
        come as locations with a fault.
        """
        originals: dict[str, Found] = {}
        for files in scan(self.root / ORIGINALS):
            for file in files:
                if file.suffix in IMAGE_SUFFIXES:
                    originals.setdefault(file.stem, file)
        for files in scan(self.root / EDITED):
            for file in files:
                yield self._location(file, originals)

    def _location(self, file: Found, originals: dict[str, Found]) -> Location:
        origin = f"evalset:{self.cfg.name}/{printable(file.name)}"
        parts = file.stem.split("/")
        if file.fault is not None or len(parts) != 4:
            why = f"{shown(file.name)} does not lie in <set>/<category>/<prompt>/"
            return Location(origin, file.path, {"file": file.state}, file.fault or ("unexpected", why))
        category, prompt = parts[1:3]
        photo = re.sub(r"_\d+$", "", parts[3])
        before = originals.get(f"unsplash_{category}/{photo}")
        if before is None:
            why = f"no {ORIGINALS}/unsplash_{shown(category)}/{shown(photo)} to {shown(file.name)}; download it"
            return Location(origin, file.path, {"file": file.state}, ("no_before", why))
        facts = {"category": printable(category), "prompt": printable(prompt), "photo": printable(photo)}
        known = {"file": file.state, "before": [before.name, *before.state], **facts}
        return Location(origin, file.path, known, before.fault)

    def read(self, location: Location, size: int, max_pixels: int) -> GivenPair:
        """Photo and edited image. Raises `Rejected` (see `decode_rgb`; `aspect`, `too_small`)."""
        known = location.known
        before = f"{self.root}/{ORIGINALS}/{known['before'][0]}"
        images = [decode_rgb(read_file(path, max_pixels), max_pixels) for path in (before, location.uri)]
        halves = same_shape(Halves(*images), self.cfg.aspect_tolerance)
        said = " ".join(known["prompt"].replace("_", " ").split())
        task = f"{self.cfg.name}/{known['category']}/{'-'.join(said.lower().split())}"
        edit = Edit(task, edit_type_of(task, self.cfg.edit_types), said)
        facts = Facts(f"photo:{self.cfg.name}/{known['category']}/{known['photo']}", "photo", "", self.cfg.licence)
        return pair_row(location, halves, size, facts, edit)
