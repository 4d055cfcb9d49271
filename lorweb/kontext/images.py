"""Any PIL image a person may hand over becomes plain 8-bit RGB, upright, or is refused with a sentence."""

import struct
from typing import Final

import numpy as np
from PIL import ExifTags, Image

MAX_PIXELS: Final = 50_000_000  # decoded size limit: above it an image is a mistake or a decompression bomb
MAX_ASPECT: Final = 16.0  # longest side over shortest; beyond it less than 1/16 of a quadrant would show the image
UNDECODABLE: Final = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what decoders raise for damaged data
UPRIGHT: Final = {  # EXIF orientation -> what shows the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def as_rgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded RGB copy of `image`: EXIF rotation applied, transparency laid on white, CMYK and palette converted.

    16-bit grey is scaled to 8 bit. Of an animation it is the frame the image stands at: the first of an opened file.
    Metadata are left behind. `name` is what messages call the image (`a`, `b[3]`, a path).

    Raises:
        ValueError: no pixels, more than MAX_PIXELS, sides further apart than MAX_ASPECT, truncated data, or a mode
            without a defined range (32-bit integers and floats).
    """
    width, height = image.size
    if not width or not height:
        raise ValueError(f"{name} has {width}x{height} px, so there is nothing to see; give an image with pixels")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width}x{height} px, more than the limit of {MAX_PIXELS} px; scale it down first")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(
            f"{name} has {width}x{height} px; its sides may differ by a factor of {MAX_ASPECT:g} at most; crop it first"
        )
    try:
        image.load()
    except UNDECODABLE as error:
        raise ValueError(
            f"{name} cannot be decoded ({error}); the file is probably truncated, save it again"
        ) from error
    plain = _to_rgb(image, name)
    plain.info.clear()
    turn = UPRIGHT.get(_orientation(image))
    return plain if turn is None else plain.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Damaged EXIF counts as none: the picture itself is whole."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*UNDECODABLE, TypeError):
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in ("F", "I"):
        raise ValueError(
            f"{name} has mode {image.mode} (32 bits without a defined range); save it as an 8-bit RGB image first"
        )
    if image.mode.startswith("I;16"):
        return _sixteen_to_eight(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _sixteen_to_eight(image: Image.Image) -> Image.Image:
    """PIL's own conversion clips at 255 instead of scaling, which turns 16-bit greys white."""
    values_HW = np.asarray(image).astype(np.float64) / 257.0
    return Image.fromarray(values_HW.round().astype(np.uint8)).convert("RGB")
