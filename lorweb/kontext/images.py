"""Any PIL image a person may hand over becomes plain 8-bit RGB, upright, or is refused with a sentence."""

from typing import Final

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS: Final = 50_000_000  # decoded size limit: above it an image is a mistake or a decompression bomb
MAX_ASPECT: Final = 16.0  # longest side over shortest; beyond it less than 1/16 of a quadrant would show the image


def as_rgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded RGB copy of `image`: EXIF rotation applied, transparency laid on white, CMYK and palette converted.

    16-bit grey is scaled to 8 bit. `name` is what messages call the image (`a`, `b[3]`, a path).

    Raises:
        ValueError: more than MAX_PIXELS, sides further apart than MAX_ASPECT, truncated data, or a mode without a
            defined range (32-bit integers and floats).
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width}x{height} px, more than the limit of {MAX_PIXELS} px; scale it down first")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(
            f"{name} has {width}x{height} px; its sides may differ by a factor of {MAX_ASPECT:g} at most; crop it first"
        )
    try:
        upright = ImageOps.exif_transpose(image)
        upright.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{name} cannot be decoded ({error}); the file is probably truncated, save it again"
        ) from error
    return _to_rgb(upright, name)


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
