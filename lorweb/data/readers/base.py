"""What readers share: where a source is, the `Source` row of its image, and the `Given` row of a pair that exists."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Protocol, TypedDict

from PIL import Image

from lorweb.data.decode import encode_png
from lorweb.records import stable_id
from lorweb.sections import Section


class ReaderSection(Section):
    """Parameters of one reader: frozen, no defaults, closed to unknown keys."""

    ROWS: ClassVar[tuple[str, ...]] = ()  # names of those that go into every row, beside what its location says

    def rows_depend_on(self) -> str:
        """The values of `ROWS`, as canonical JSON: a source is read again when it changes."""
        return json.dumps(self.model_dump(mode="json", include=set(self.ROWS)), sort_keys=True)


@dataclass(frozen=True)
class Location:
    """One source that a reader can read: cheap to list, stable, and enough to read it again.

    Attributes:
        origin: "<reader>:<what it needs to make this image again>", unique; the source id is its hash.
        uri: where the bytes lie (a file path), or "" where the image is drawn.
        known: JSON values that decide the row beside `origin`: state of the file, place in a shard, a caption from an
            index. The source is read again when one of them changes. Without "file", the size and the time of change
            of `uri` are added.
        fault: (check, reason) where listing has found already that nothing can be read here: it becomes a reject.
    """

    origin: str
    uri: str
    known: Mapping[str, Any] = field(default_factory=dict)
    fault: tuple[str, str] | None = None


class SourceRow(TypedDict):
    """The fields of `records.SOURCE`."""

    id: str
    subject: str
    category: str
    caption: str
    image: bytes
    width: int
    height: int
    licence: str
    origin: str
    sha256: str


class GivenRow(TypedDict):
    """The fields of `records.GIVEN`."""

    source: str
    task: str
    edit_type: str
    instruction: str
    after: bytes
    sha256: str


@dataclass(frozen=True)
class GivenPair:
    """A pair that exists: its before image as a source, and what was done to it."""

    source: SourceRow
    given: GivenRow


@dataclass(frozen=True)
class Facts:
    """What a reader knows of a source beside its pixels. `subject` is the unit of the subject split."""

    subject: str
    category: str
    caption: str
    licence: str


@dataclass(frozen=True)
class Edit:
    """What was done to a before image."""

    task: str
    edit_type: str
    instruction: str


class Reader(Protocol):
    """A kind of source. It is made where the sources are listed and once more in every worker."""

    def locations(self) -> Iterable[Location]:
        """All sources in a stable order, without decoding any."""

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow | GivenPair:
        """One source as PNG, RGB, `size` x `size`. Raises `Rejected`."""


def source_row(location: Location, image: Image.Image, facts: Facts) -> SourceRow:
    """Assemble the row of a finished RGB image."""
    data = encode_png(image)
    return SourceRow(
        id=stable_id(location.origin),
        subject=facts.subject,
        category=facts.category,
        caption=facts.caption,
        image=data,
        width=image.width,
        height=image.height,
        licence=facts.licence,
        origin=location.origin,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def given_pair(source: SourceRow, after: Image.Image, edit: Edit) -> GivenPair:
    """Assemble the pair of a source row and its finished after image, RGB and of the same size."""
    data = encode_png(after)
    given = GivenRow(
        source=source["id"],
        task=edit.task,
        edit_type=edit.edit_type,
        instruction=edit.instruction,
        after=data,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return GivenPair(source, given)


def edit_type_of(task: str, types: Mapping[str, str]) -> str:
    """The type of the first pattern that matches a task id; "other" where none does."""
    return next((kind for pattern, kind in types.items() if fnmatchcase(task, pattern)), "other")
