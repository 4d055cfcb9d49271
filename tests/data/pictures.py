"""Image files made in tests, and what a reader makes of a whole place."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from lorweb.data.readers import GivenPair, Reader, ReaderConfig, build_reader
from lorweb.data.rejects import Rejected
from tests.data.world import MAX_PIXELS

SIDE = 32


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a huge size, in less than 100 bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + b"\0\0\0\x20IDAT"
        + b"\0" * 40
    )


def noise(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Width and height in pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def squared(image: Image.Image) -> bytes:
    """Pixels of the centred square of `SIDE`, worked out without the code under test."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box).tobytes()


def pixels(data: bytes) -> bytes:
    """Pixels of the bytes of an image file."""
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def reader_of(**entry: Any) -> Reader:
    """The reader of an entry of collect.readers."""
    cfg: ReaderConfig = TypeAdapter(ReaderConfig).validate_python(entry)
    return build_reader(cfg)


def outcomes(reader: Reader) -> dict[str, Any]:
    """What becomes of every location: origin without its kind -> row, pair, or the name of the check."""
    found: dict[str, Any] = {}
    for place in reader.locations():
        name = place.origin.partition(":")[2]
        assert name not in found, f"{name} comes twice"
        try:
            found[name] = place.fault[0] if place.fault else reader.read(place, SIDE, MAX_PIXELS)
        except Rejected as why:
            assert why.reason
            found[name] = why.check
    return found


def checks(found: dict[str, Any]) -> dict[str, str]:
    """Only the rejects."""
    return {name: value for name, value in found.items() if isinstance(value, str)}


def pairs(found: dict[str, Any]) -> dict[str, GivenPair]:
    """Only the pairs."""
    return {name: value for name, value in found.items() if isinstance(value, GivenPair)}


def write(path: Path, data: bytes | str | Image.Image) -> Path:
    """A file with the folders above it; an image in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, Image.Image):
        data = encoded(data, {"JPG": "JPEG", "TIF": "TIFF"}.get(form := path.suffix[1:].upper(), form))
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
