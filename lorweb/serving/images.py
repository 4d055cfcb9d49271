"""Images as requests carry them: bytes or base64 text of a file, refused by their size before they are decoded."""

import base64
import binascii
import io
from typing import Final

from PIL import Image

MAX_BYTES: Final = 20_000_000  # of one encoded image
MAX_PIXELS: Final = 16_777_216  # of one decoded image: 4096 x 4096
FORMATS: Final = ("PNG", "JPEG", "WEBP")


class BadRequest(ValueError):
    """A request that cannot be answered; the sentence names row and column and says what would be right."""


def decode_image(value: object, name: str) -> Image.Image:
    """Encoded bytes or base64 text -> RGB image; size limits hold before anything is decoded.

    Raises:
        BadRequest: not text or bytes, not base64, not an image of the accepted formats, too big, or truncated.
    """
    from lorweb.kontext.images import as_rgb

    try:
        return as_rgb(opened(encoded(value, name), name), name)
    except BadRequest:
        raise
    except ValueError as error:
        raise BadRequest(str(error)) from error


def encoded(value: object, name: str) -> bytes:
    """The bytes of an image file, from bytes or base64 text. Raises BadRequest: neither, or too many."""
    if isinstance(value, str):
        if len(value) > MAX_BYTES * 4 // 3 + 4:
            raise BadRequest(
                f"{name} has {len(value)} characters of base64; at most {MAX_BYTES} bytes of image are accepted"
            )
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequest(f"{name} is not base64 ({error}); send base64 text of a PNG, JPEG or WebP file") from error
    if not isinstance(value, bytes):
        raise BadRequest(f"{name} is a {type(value).__name__}; send bytes or base64 text of a PNG, JPEG or WebP file")
    if len(value) > MAX_BYTES:
        raise BadRequest(
            f"{name} has {len(value)} bytes, more than the limit of {MAX_BYTES}; scale or compress it first"
        )
    return value


def opened(data: bytes, name: str) -> Image.Image:
    """The image as PIL opens it: size known and within the limit, pixels not yet decoded. Raises BadRequest."""
    from lorweb.kontext.images import UNDECODABLE

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, *UNDECODABLE) as error:
        raise BadRequest(f"{name} is not an image this service reads; send a PNG, JPEG or WebP file") from error
    if image.width * image.height > MAX_PIXELS:
        raise BadRequest(
            f"{name} has {image.width}x{image.height} px, more than the limit of {MAX_PIXELS} px; scale it down first"
        )
    return image
