"""Bytes from anywhere -> an 8-bit RGB image, or `Rejected` with a reason. Nothing else may escape."""

import io
import struct
import warnings
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lorweb.data.rejects import Rejected

# Plain raster formats with a signature. Pillow also knows some that start helper programs (EPS), hold documents (PDF)
# or claim any bytes (TGA).
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO")
_ENDS: Final = {
    b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82",
    b"\xff\xd8\xff": b"\xff\xd9",
    b"GIF87a": b";",
    b"GIF89a": b";",
}
_TIFF_SIZES: Final = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a value by its type; else 1
_PALETTE_ALPHA: Final = "transparency"


def decode_rgb(data: bytes, max_pixels: int) -> Image.Image:
    """Decode an image file to RGB: first frame, EXIF rotation applied, transparency on white, 16 bit scaled to 8.

    Args:
        data: a whole file in one of `FORMATS`.
        max_pixels: width times height above which nothing is decoded; the header alone decides.

    Raises:
        Rejected: checks `empty`, `not_an_image`, `too_large`, `truncated`, `unreadable`.
    """
    if not data:
        raise Rejected("empty", "the file has 0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of its own bomb limit and of odd EXIF; ours is `max_pixels`
        return _decode(data, max_pixels)


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    image = _open(data)
    pixels = image.width * image.height
    if pixels > max_pixels:
        reason = f"{image.width} x {image.height} pixels; raise max_pixels or shrink it"
        raise Rejected("too_large", reason, pixels, max_pixels)
    if pixels == 0:
        raise Rejected("unreadable", f"the header claims {image.width} x {image.height} pixels")
    try:
        image.load()
        # A broken EXIF block must not cost the picture: it is turned only if the block can be read.
        return _to_rgb(_upright(image))
    except Image.DecompressionBombError as error:
        raise Rejected("too_large", str(error), pixels, max_pixels) from error
    except (OSError, SyntaxError) as error:
        said = str(error).lower()
        check = "truncated" if "truncated" in said or "premature" in said or _cut_off(data) else "unreadable"
        raise Rejected(check, f"the {image.format} data does not decode: {error}") from error
    except Exception as error:  # a hostile file can raise anything from a decoder; the run must go on
        check = "truncated" if _cut_off(data) else "unreadable"
        raise Rejected(check, f"the {image.format} decoder failed: {type(error).__name__}: {error}") from error


def _open(data: bytes) -> Image.Image:
    """Read the header only."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Rejected("too_large", str(error)) from error
    except UnidentifiedImageError as error:
        if _cut_off(data):
            raise Rejected("truncated", f"the file ends within its header, after {len(data)} bytes") from error
        raise Rejected("not_an_image", f"none of {', '.join(FORMATS)} begins like this file") from error
    except Exception as error:  # as above: header parsers fail in their own ways
        if _cut_off(data):
            raise Rejected("truncated", f"the file ends within its header, after {len(data)} bytes") from error
        raise Rejected("unreadable", f"the header does not parse: {type(error).__name__}: {error}") from error


def _cut_off(data: bytes) -> bool:
    """Whether a file that does not decode begins as an image of its format does, but lacks that format's end."""
    for begin, end in _ENDS.items():
        if data.startswith(begin):
            return not data.rstrip(b"\0").endswith(end)
    if data.startswith(b"RIFF") and b"WEBP".startswith(data[8:12]):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith((b"II*\0", b"MM\0*")):
        return len(data) < _tiff_needs(data)
    return data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little")


def _tiff_needs(data: bytes) -> int:
    """Bytes that the first list of tags of a TIFF claims, with the values that do not fit into it."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    at = int.from_bytes(data[4:8], order)  # where the list begins, often behind the pixels
    count = int.from_bytes(data[at : at + 2], order)
    need = at + 2 + 12 * count + 4  # the last four say where the next list lies
    for number in range(count if need <= len(data) else 0):
        tag = data[at + 2 + 12 * number : at + 14 + 12 * number]
        size = _TIFF_SIZES.get(int.from_bytes(tag[2:4], order), 1) * int.from_bytes(tag[4:8], order)
        need = max(need, int.from_bytes(tag[8:12], order) + size if size > 4 else 0)
    return need


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if "A" in image.mode or "a" in image.mode or _PALETTE_ALPHA in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Integers as 16 bit, floats as 0..1 where they fit in it, else by their own range."""
    v = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    if values.dtype.kind == "f":
        low, high = (0.0, 1.0) if v.min() >= 0 and v.max() <= 1 else (float(v.min()), float(v.max()))
    else:
        low, high = 0.0, 65535.0 if v.max() > 255 else 255.0
    scaled = (v - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(scaled * 255 + 0.5, 0, 255), np.uint8)


def large_enough(image: Image.Image, size: int) -> Image.Image:
    """The image itself. Raises `Rejected` (check `too_small`) where its short side is under `size` / 4."""
    short = min(image.size)
    if short < size / 4:
        raise Rejected("too_small", f"{image.width} x {image.height} pixels for size {size}", short, size / 4)
    return image


def square(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square of an image, resized to `size` x `size`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def encode_png(image: Image.Image) -> bytes:
    """RGB PNG bytes without metadata: same pixels, same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image.convert("RGB"))).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
