"""What readers share: the location of a source, and the `Source` row built from its image."""

import hashlib
from dataclasses import dataclass
from typing import Protocol, TypedDict

from PIL import Image
from pydantic import BaseModel, ConfigDict

from lorweb.data.decode import encode_png
from lorweb.records import stable_id


class ReaderSection(BaseModel):
    """Parameters of one reader: frozen, no defaults, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Location:
    """One source that a reader can read: cheap to list, stable, and enough to read it again.

    Attributes:
        origin: "<reader>:<what it needs to make this image again>", unique; the source id is its hash.
        uri: where the bytes lie (a file path), or "" where the image is drawn.
    """

    origin: str
    uri: str


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


@dataclass(frozen=True)
class Facts:
    """What a reader knows of a source beside its pixels."""

    subject: str
    category: str
    caption: str
    licence: str


class Reader(Protocol):
    """A kind of source."""

    def locations(self) -> list[Location]:
        """All sources in a stable order, without decoding any."""

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:
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
