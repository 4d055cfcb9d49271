"""Odd and broken images of every kind, and the upright RGB picture that each of them is meant to be."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, GREY = (200, 20, 20), (20, 180, 20), (20, 20, 200), (120, 120, 120)
WHITE = (255, 255, 255)


def picture(width: int = 32, height: int = 16, corner: tuple[int, int, int] = GREY) -> Image.Image:
    """Four flat quarters: red, green; blue, `corner`. Wide, and no symmetry is left."""
    image = Image.new("RGB", (width, height), RED)
    w, h = width // 2, height // 2
    image.paste(GREEN, (w, 0, width, h))
    image.paste(BLUE, (0, h, w, height))
    image.paste(corner, (w, h, width, height))
    return image


PICTURE, HOLED = picture(), picture(corner=WHITE)


def stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@dataclass(frozen=True)
class Odd:
    """A file that is taken: its bytes, its suffix, what it shows, and by how much a pixel may be off."""

    data: bytes
    suffix: str
    shows: Image.Image
    by: int


def turned(kind: str, orientation: int, stored_as: Image.Transpose) -> bytes:
    """The picture as a camera stores it that was held askew: pixels turned, and EXIF says how to turn them back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return stored(PICTURE.transpose(stored_as), kind, exif=exif)


def transparent() -> Image.Image:
    alpha = Image.new("L", PICTURE.size, 255)
    alpha.paste(0, (16, 8, 32, 16))
    image = PICTURE.copy()
    image.putalpha(alpha)
    return image


def palette_with_hole() -> bytes:
    image = PICTURE.quantize(4, dither=Image.Dither.NONE)
    return stored(image, "PNG", transparency=image.getpixel((31, 15)))


def sixteen_bit(kind: str) -> bytes:
    """Grey values v as v * 257, which is what 16 bits call the same brightness."""
    return stored(Image.fromarray(np.asarray(GREYS.convert("L")).astype(np.uint16) * 257), kind)


def sixteen_bit_colour() -> bytes:
    """A 16-bit RGB PNG written by hand: PIL has no such mode."""
    values = np.asarray(PICTURE).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return png(PICTURE.width, PICTURE.height, bits=16, data=zlib.compress(rows))


def png(width: int, height: int, bits: int, data: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


GREYS = PICTURE.convert("L").convert("RGB")
LATER = Image.new("RGB", PICTURE.size, (0, 0, 0))  # later frames, which nobody looks at
BACK = Image.Transpose.ROTATE_90  # undone by orientation 6: 90 degrees clockwise
SHARP: dict[str, Any] = {"quality": 95, "subsampling": 0}

TAKEN: dict[str, Callable[[], Odd]] = {
    "RGBA": lambda: Odd(stored(transparent(), "PNG"), ".png", HOLED, 0),
    "palette": lambda: Odd(stored(PICTURE.quantize(4, dither=Image.Dither.NONE), "PNG"), ".png", PICTURE, 1),
    "palette with transparency": lambda: Odd(palette_with_hole(), ".png", HOLED, 1),
    "CMYK": lambda: Odd(stored(PICTURE.convert("CMYK"), "JPEG", **SHARP), ".jpg", PICTURE, 16),
    "grey": lambda: Odd(stored(PICTURE.convert("L"), "PNG"), ".png", GREYS, 0),
    "16-bit grey PNG": lambda: Odd(sixteen_bit("PNG"), ".png", GREYS, 0),
    "16-bit grey TIFF": lambda: Odd(sixteen_bit("TIFF"), ".tif", GREYS, 0),
    "16-bit colour PNG": lambda: Odd(sixteen_bit_colour(), ".png", PICTURE, 0),
    "EXIF-rotated JPEG": lambda: Odd(turned("JPEG", 6, BACK), ".jpg", PICTURE, 90),
    "EXIF-rotated PNG": lambda: Odd(turned("PNG", 6, BACK), ".png", PICTURE, 0),
    "EXIF-rotated WebP": lambda: Odd(turned("WEBP", 6, BACK), ".webp", PICTURE, 90),
    "EXIF-rotated TIFF": lambda: Odd(turned("TIFF", 6, BACK), ".tif", PICTURE, 0),
    "EXIF damaged": lambda: Odd(stored(PICTURE, "PNG", exif=b"Exif\0\0no such thing"), ".png", PICTURE, 0),
    "animated GIF": lambda: Odd(stored(PICTURE, "GIF", save_all=True, append_images=[LATER]), ".gif", PICTURE, 1),
    "animated WebP": lambda: Odd(
        stored(PICTURE, "WEBP", save_all=True, append_images=[LATER], lossless=True), ".webp", PICTURE, 0
    ),
    "animated PNG": lambda: Odd(stored(PICTURE, "PNG", save_all=True, append_images=[LATER]), ".png", PICTURE, 0),
    "1x1": lambda: Odd(stored(Image.new("RGB", (1, 1), RED), "PNG"), ".png", Image.new("RGB", (1, 1), RED), 0),
}
NOISE = Image.effect_noise((64, 64), 90).convert("RGB")


def cut(kind: str) -> bytes:
    whole = stored(NOISE, kind)
    return whole[: len(whole) * 2 // 3]


REFUSED: dict[str, tuple[Callable[[], bytes], str, str]] = {  # bytes, suffix, what the sentence says
    "1x4000": (lambda: stored(Image.new("RGB", (1, 4000)), "PNG"), ".png", "has 1x4000 px; its sides may differ"),
    "truncated PNG": (lambda: cut("PNG"), ".png", "cannot be decoded"),
    "truncated JPEG": (lambda: cut("JPEG"), ".jpg", "cannot be decoded"),
    "truncated GIF": (lambda: cut("GIF"), ".gif", "cannot be decoded"),
    "truncated TIFF": (lambda: cut("TIFF"), ".tif", "cannot be decoded"),
    # Its header promises 120 million pixels and there are none: if it were decoded, it would be called truncated.
    "bomb": (lambda: png(12_000, 10_000, bits=8, data=b""), ".png", "12000x10000 px, more than the limit of 50000000"),
}
IN_MEMORY: dict[str, tuple[Image.Image, str]] = {  # no file can hold these
    "0x0": (Image.new("RGB", (0, 0)), "has 0x0 px, so there is nothing to see"),
    "0x5": (Image.new("RGB", (0, 5)), "has 0x5 px, so there is nothing to see"),
    "floats": (Image.new("F", (32, 16)), "has mode F"),
    "32-bit integers": (Image.new("I", (32, 16)), "has mode I"),
}
