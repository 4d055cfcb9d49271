"""Packaged sources that the tests of readers, editors and catalogue share."""

from functools import lru_cache

from lorweb.data.avatars import BASE
from lorweb.data.readers import SourceRow, build_reader
from lorweb.data.readers.dicebear import DicebearConfig
from lorweb.data.readers.photos import PhotosConfig

MAX_PIXELS = 50_000_000
SIZE = 64


@lru_cache(maxsize=1)
def sources() -> tuple[SourceRow, ...]:
    """Two colourful photos, then two avatars of every style."""
    photos = build_reader(PhotosConfig(reader="photos", crops=1))
    avatars = build_reader(DicebearConfig(reader="dicebear", styles=tuple(BASE), seeds=2, first_seed=10))
    wanted = [place for place in photos.locations() if place.origin in ("photos:chelsea:0", "photos:coffee:0")]
    rows = [photos.read(place, SIZE, MAX_PIXELS) for place in wanted]
    return (*rows, *(avatars.read(place, SIZE, MAX_PIXELS) for place in avatars.locations()))
