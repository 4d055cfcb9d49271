"""Requests to a served model: rows as people send them, and every way in which a row may be wrong."""

import base64
import io
import struct
import zlib
from typing import Any

from PIL import Image

from tests.kontext_tiny import drawn_image


def png(seed: int, width: int = 40, height: int = 40) -> bytes:
    """A small drawn image as a file."""
    buffer = io.BytesIO()
    drawn_image(seed, width, height).save(buffer, "PNG")
    return buffer.getvalue()


def text(data: bytes) -> str:
    """As JSON carries it."""
    return base64.b64encode(data).decode()


def record(**options: Any) -> dict[str, Any]:
    """A valid row, or one with something changed."""
    return {"a": text(png(1)), "a2": text(png(2)), "b": text(png(3)), **options}


def flat(width: int, height: int) -> str:
    """A picture of one colour: some kilobytes that unpack to all its pixels."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return text(buffer.getvalue())


def claims(width: int, height: int) -> str:
    """A PNG header that claims a size, and nothing behind it."""
    size = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(size)) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    return text(b"\x89PNG\r\n\x1a\n" + chunk)


# (what is wrong with the row, the sentence about it)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"a": "no base64!"}, "row 0, column a is not base64"),
    ({"a": text(b"GIF89a no image")}, "row 0, column a is not an image this service reads"),
    ({"a": ""}, "row 0, column a is not an image this service reads"),
    ({"b": text(png(3)[:200])}, "row 0, column b cannot be decoded"),
    ({"b": claims(30_000, 30_000)}, "row 0, column b is not an image this service reads"),
    ({"b": flat(5000, 5000)}, "row 0, column b has 5000x5000 px, more than the limit of 16777216 px"),
    ({"b": text(png(3, 200, 8))}, "row 0, column b has 200x8 px; its sides may differ by a factor of 16"),
    ({"a2": text(png(2, 80, 40))}, "row 0: "),
    ({"a2": "A" * 30_000_000}, "row 0, column a2 has 30000000 characters of base64"),
    ({"a2": 5}, "row 0, column a2 is a int; send bytes or base64 text"),
    ({"a2": ["x"]}, "row 0, column a2 is a list; send bytes or base64 text"),
    ({"seed": -1}, "row 0, column seed is -1; it must be a whole number from 0"),
    ({"seed": 1.5}, "row 0, column seed is 1.5"),
    ({"seed": 2**63}, "row 0, column seed is 9223372036854775808; it must be a whole number from 0"),
    ({"seed": 10**400}, "row 0, column seed is 1000"),
    ({"seed": True}, "row 0, column seed is True; it must be a whole number"),
    ({"seed": [1]}, r"row 0, column seed is \[1\]; it must be a whole number"),
    ({"steps": 1000}, "row 0, column steps is 1000; it must be a whole number from 1 to 200"),
    ({"steps": 0}, "row 0, column steps is 0; it must be a whole number from 1 to 200"),
    ({"strength": float("inf")}, "row 0, column strength is inf; it must be a number from -10 to 10"),
    ({"strength": "NaN"}, "row 0, column strength is 'NaN'; it must be a number from -10 to 10"),
    ({"strength": 1e30}, "row 0, column strength is 1e\\+30; it must be a number from -10 to 10"),
    ({"strength": "much"}, "row 0, column strength is 'much'; it must be a number"),
    ({"strength": {"of": 1}}, "row 0, column strength is .*; it must be a number"),
    ({"guidance": -1}, "row 0, column guidance is -1; it must be a number from 0 to 100"),
    ({"prompt": "x" * 3000}, "row 0, column prompt must be text of at most 2000 characters"),
    ({"prompt": 5}, "row 0, column prompt must be text of at most 2000 characters, got 5"),
]
