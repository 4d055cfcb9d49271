"""Images inside the page: as data addresses, so that nothing is loaded from anywhere."""

import base64
import io
from typing import Final

from PIL import Image

LOSSLESS_SIDE: Final = (
    96  # px, at most: below, every pixel counts; above, a page of some hundred images grows too large
)
LARGEST_SIDE: Final = 192  # px, twice of what the page gives an image on a laptop
QUALITY: Final = 88  # of WebP, for larger images
EFFORT: Final = 75  # of 100, without loss: more takes 25 times as long for not one percent


def thumbnail(data: bytes) -> str:
    """An encoded RGB image as a WebP data address: the same pixels up to 96 px a side, else lossy, 192 px at most."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if max(image.size) <= LOSSLESS_SIDE:
        return _webp(image, lossless=True)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    return _webp(image, lossless=False)


def drawing(image: Image.Image) -> str:
    """A chart or map of few colours as a data address, every pixel as it is."""
    return _webp(image.convert("RGB"), lossless=True)


def _webp(image: Image.Image, *, lossless: bool) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=EFFORT if lossless else QUALITY, method=4, exact=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
