"""Readers of packaged sources: every source is a sound row, and made twice it is the same bytes."""

import hashlib
import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from lorweb.data.readers import ReaderConfig, build_reader
from lorweb.data.readers.dicebear import DicebearConfig
from lorweb.data.readers.fluent import FluentConfig
from lorweb.data.readers.photos import PHOTOS, PhotosConfig
from lorweb.data.readers.tuxpaint import TuxpaintConfig
from lorweb.records import SOURCE, stable_id
from tests.data.world import MAX_PIXELS, SIZE, sources


def test_every_packaged_source_is_a_whole_row() -> None:
    rows = sources()
    assert len(rows) == 20
    for row in rows:
        assert set(row) == set(SOURCE.names)
        image = Image.open(io.BytesIO(row["image"]))
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (SIZE, SIZE))
        assert row["id"] == stable_id(row["origin"])
        assert row["sha256"] == hashlib.sha256(row["image"]).hexdigest()
        assert row["subject"] and row["caption"] and row["licence"]
    assert len({row["id"] for row in rows}) == len(rows)


def test_a_source_read_again_is_the_same_bytes() -> None:
    for cfg in (
        PhotosConfig(reader="photos", crops=3),
        DicebearConfig(reader="dicebear", styles=("thumbs",), seeds=2, first_seed=5),
    ):
        place = build_reader(cfg).locations()[-1]
        assert build_reader(cfg).read(place, 48, MAX_PIXELS) == build_reader(cfg).read(place, 48, MAX_PIXELS)


def test_crops_differ_but_their_subject_is_the_photo() -> None:
    reader = build_reader(PhotosConfig(reader="photos", crops=4))
    places = reader.locations()
    assert len(places) == 4 * len(PHOTOS)
    rows = [reader.read(place, 32, MAX_PIXELS) for place in places if place.origin.startswith("photos:coffee:")]
    assert {row["subject"] for row in rows} == {"photo:coffee"}
    assert len({row["sha256"] for row in rows}) == 4


def test_more_crops_keep_the_first_ones() -> None:
    few, many = (build_reader(PhotosConfig(reader="photos", crops=n)) for n in (2, 5))
    assert {place.origin for place in few.locations()} < {place.origin for place in many.locations()}


def test_reader_sections_are_closed_and_name_the_nearest_style() -> None:
    adapter: TypeAdapter[ReaderConfig] = TypeAdapter(ReaderConfig)
    assert isinstance(adapter.validate_python({"reader": "photos", "crops": 2}), PhotosConfig)
    with pytest.raises(ValidationError, match="Extra inputs"):
        adapter.validate_python({"reader": "photos", "crops": 2, "crop": 3})
    with pytest.raises(ValidationError, match="did you mean 'thumbs'"):
        adapter.validate_python({"reader": "dicebear", "styles": ["tumbs"], "seeds": 1, "first_seed": 0})


def test_missing_tools_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs npm"):
        build_reader(FluentConfig(reader="fluent", drawing="flat", limit=3, cache=str(tmp_path))).locations()
    with pytest.raises(ValueError, match="needs apt-get"):
        build_reader(TuxpaintConfig(reader="tuxpaint", limit=3, cache=str(tmp_path))).locations()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this machine")
def test_fluent_emoji_from_npm(tmp_path: Path) -> None:
    reader = build_reader(FluentConfig(reader="fluent", drawing="flat", limit=5, cache=str(tmp_path)))
    rows = [reader.read(place, 64, MAX_PIXELS) for place in reader.locations()]
    assert len({row["sha256"] for row in rows}) == 5
    assert {row["licence"] for row in rows} == {"MIT"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no Debian tools on this machine")
def test_tuxpaint_stamps_from_debian(tmp_path: Path) -> None:
    reader = build_reader(TuxpaintConfig(reader="tuxpaint", limit=5, cache=str(tmp_path)))
    rows = [reader.read(place, 64, MAX_PIXELS) for place in reader.locations()]
    assert len({row["sha256"] for row in rows}) == 5
    assert all(row["caption"] for row in rows)
