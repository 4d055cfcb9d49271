"""A reader of the user's own: a class in a module beside params.yaml, or in an installed package."""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, get_type_hints

from PIL import Image

from lorweb.data.plugins import code_of, load_class
from lorweb.data.readers.base import GivenPair, GivenRow, Location, Reader, ReaderSection, SourceRow
from lorweb.data.readers.captions import storable
from lorweb.data.rejects import Rejected
from lorweb.hub import first_line
from lorweb.records import stable_id
from lorweb.sections import EDIT_TYPES, OwnClass

_METHODS = ("locations", "read")


class PythonReaderConfig(ReaderSection, OwnClass):
    """A reader of the user's own; see `Reader` for what it has to do."""

    ROWS: ClassVar = ("class_", "options")

    reader: Literal["python"]

    def rows_depend_on(self) -> str:
        """Class, options, and the code of the file that the class stands in."""
        return json.dumps([super().rows_depend_on(), code_of(load_class(self.class_, f"reader '{self.class_}'"))])


class PythonReader:
    """Calls the user's class and holds its answers against the contract.

    Raises:
        ValueError: the module or class is missing, is no reader, or could not be made.
    """

    def __init__(self, cfg: PythonReaderConfig) -> None:
        self.where = f"reader '{cfg.class_}'"
        cls: Any = load_class(cfg.class_, self.where)
        lacking = [name for name in _METHODS if not callable(getattr(cls, name, None))]
        if lacking:
            raise ValueError(f"{self.where} is no reader: it has no {' and no '.join(lacking)}() (lorweb.data.readers)")
        try:
            self.reader: Reader = cls(cfg.options)
        except Exception as error:  # user code: anything may go wrong in it
            said = f"{type(error).__name__}: {first_line(error)}"
            raise ValueError(f"{self.where} could not be made with options {cfg.options}: {said}") from error

    def locations(self) -> Iterator[Location]:
        """What the class lists. Raises ValueError for an exception in it, or for what is no `Location`."""
        try:
            for place in self.reader.locations():
                if not isinstance(place, Location):
                    raise TypeError(f"locations() gave {type(place).__name__}, not lorweb.data.readers.Location")
                json.dumps([place.origin.encode().decode(), dict(place.known)])  # both have to travel to the workers
                yield place
        except Exception as error:  # user code, as above
            raise ValueError(
                f"{self.where} cannot list its sources: {type(error).__name__}: {first_line(error)}"
            ) from error

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow | GivenPair:
        """What the class reads. Raises `Rejected`: its own, or check `bad_row` for a row that breaks the contract."""
        row = self.reader.read(location, size, max_pixels)
        if isinstance(row, GivenPair):
            _check(dict(row.given), get_type_hints(GivenRow), "after", size)
            if row.given["edit_type"] not in EDIT_TYPES:
                raise Rejected("bad_row", f"edit_type '{row.given['edit_type']}' is none of {', '.join(EDIT_TYPES)}")
        source = row.source if isinstance(row, GivenPair) else row
        _check(dict(source), get_type_hints(SourceRow), "image", size)
        named = {"id": stable_id(location.origin), "origin": location.origin, "width": size, "height": size}
        for field, value in named.items():
            if source[field] != value:  # type: ignore[literal-required]
                raise Rejected("bad_row", f"{field} is {source[field]!r}, it must be {value!r}; use source_row()")  # type: ignore[literal-required]
        if isinstance(row, GivenPair) and row.given["source"] != source["id"]:
            raise Rejected("bad_row", f"the pair names the source {row.given['source']}, not {source['id']}")
        return row


def _check(row: dict[str, Any], fields: dict[str, type], image: str, size: int) -> None:
    """Raises `Rejected` (check `bad_row`) where fields are missing, too many or of other types, or the image is odd."""
    if set(row) != set(fields):
        raise Rejected("bad_row", f"it has the fields {', '.join(sorted(row))}, not {', '.join(sorted(fields))}")
    for name, kind in fields.items():
        if type(row[name]) is not kind:
            raise Rejected("bad_row", f"field '{name}' is {type(row[name]).__name__}, not {kind.__name__}")
        if kind is str:
            storable(row[name], f"field '{name}'")
    if hashlib.sha256(row[image]).hexdigest() != row["sha256"]:
        raise Rejected("bad_row", f"sha256 is not that of '{image}'")
    try:
        with Image.open(io.BytesIO(row[image]), formats=("PNG",)) as opened:
            found = (opened.mode, opened.size)
    except Exception as error:  # bytes of user code
        raise Rejected("bad_row", f"'{image}' is no PNG; use encode_png()") from error
    if found != ("RGB", (size, size)):
        raise Rejected("bad_row", f"'{image}' is {found[0]} of {found[1][0]} x {found[1][1]} pixels, not RGB of {size}")
