"""Real photographs that scikit-image and scikit-learn carry in their packages, as several square crops each."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from lorweb.data.decode import decode_rgb
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id

_PUBLIC: Final = "LicenseRef-Public-Domain"
_UNKNOWN: Final = "LicenseRef-No-Known-Copyright-Restrictions"


@dataclass(frozen=True)
class Photo:
    """A packaged photo; licences as the packages state them, per image."""

    package: str
    file: str
    licence: str
    caption: str


_SK: Final = "skimage.data"
_LEARN: Final = "sklearn.datasets.images"

PHOTOS: Final = {
    "astronaut": Photo(_SK, "astronaut.png", _PUBLIC, "an astronaut"),
    "brick": Photo(_SK, "brick.png", "CC0-1.0", "a brick wall"),
    "camera": Photo(_SK, "camera.png", "CC0-1.0", "a man with a camera"),
    "chelsea": Photo(_SK, "chelsea.png", "CC0-1.0", "a cat"),
    "china": Photo(_LEARN, "china.jpg", "CC-BY-2.0", "a palace"),
    "coffee": Photo(_SK, "coffee.png", "CC0-1.0", "a cup of coffee"),
    "coins": Photo(_SK, "coins.png", _UNKNOWN, "old coins"),
    "flower": Photo(_LEARN, "flower.jpg", "CC-BY-2.0", "a flower"),
    "gravel": Photo(_SK, "gravel.png", "CC0-1.0", "gravel"),
    "hubble": Photo(_SK, "hubble_deep_field.jpg", _PUBLIC, "galaxies"),
    "ihc": Photo(_SK, "ihc.png", _UNKNOWN, "cells under a microscope"),
    "retina": Photo(_SK, "retina.jpg", "CC0-1.0", "a retina"),
    "rocket": Photo(_SK, "rocket.jpg", _PUBLIC, "a rocket on its pad"),
}


class PhotosConfig(ReaderSection):
    """`crops`: square crops per photo. Crop 0 is the centred square; the others vary in place and scale."""

    reader: Literal["photos"]
    crops: Annotated[int, Field(ge=1, le=1000)]


class PhotosReader:
    """Packaged photos; the subject is the photo, never the crop."""

    SMALLEST: Final = 0.35  # side of a crop over the photo's short side

    def __init__(self, cfg: PhotosConfig) -> None:
        self.cfg = cfg

    def locations(self) -> list[Location]:
        """Crops in order of photo name and crop number. Raises FileNotFoundError if a package lacks its photo."""
        found = []
        for name, photo in PHOTOS.items():
            path = str(files(photo.package) / photo.file)
            found += [Location(f"photos:{name}:{i}", path) for i in range(self.cfg.crops)]
        return found

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:
        """Crop and resize. Raises `Rejected` (also check `too_small` for a crop under `size` / 4)."""
        _, name, crop = location.origin.split(":")
        photo = PHOTOS[name]
        image = _load(location.uri, max_pixels)
        left, top, side = _crop(name, int(crop), image.size)
        if side < size / 4:
            raise Rejected("too_small", f"a crop of {side} pixels is too coarse for size {size}", side, size / 4)
        box = (left, top, left + side, top + side)
        cropped = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
        return source_row(location, cropped, Facts(f"photo:{name}", "photo", photo.caption, photo.licence))


@lru_cache(maxsize=2)  # crops of one photo come one after another
def _load(path: str, max_pixels: int) -> Image.Image:
    try:
        return decode_rgb(Path(path).read_bytes(), max_pixels)
    except OSError as error:
        raise Rejected("unreadable", f"cannot read {path}: {error}; install the package again") from error


def _crop(name: str, crop: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """(left, top, side) in pixels, a function of photo name and crop number alone."""
    width, height = size
    short = min(width, height)
    if crop == 0:
        return (width - short) // 2, (height - short) // 2, short
    rng = np.random.default_rng(int(stable_id("crop", name, crop), 16))
    side = round(short * rng.uniform(PhotosReader.SMALLEST, 1.0))
    return int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1)), side
