"""Readers: every source is a sound row, made twice it is the same bytes, and no file can crash a run."""

import hashlib
import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from lorweb.data.decode import decode_rgb
from lorweb.data.readers import ReaderConfig, build_reader
from lorweb.data.readers.dicebear import DicebearConfig
from lorweb.data.readers.fluent import FluentConfig
from lorweb.data.readers.folder import FolderConfig
from lorweb.data.readers.photos import PHOTOS, PhotosConfig
from lorweb.data.readers.tuxpaint import TuxpaintConfig
from lorweb.data.rejects import Rejected
from lorweb.records import SOURCE, stable_id
from tests.data.world import MAX_PIXELS, SIZE, sources


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def check_of(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(Rejected) as caught:
        decode_rgb(data, max_pixels)
    assert caught.value.reason
    return caught.value.check


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a huge size, in less than 100 bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + b"\0\0\0\x20IDAT"
        + b"\0" * 40
    )


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


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


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_an_image_or_a_reject(data: bytes) -> None:
    try:
        assert decode_rgb(data, 10_000).mode == "RGB"
    except Rejected as reject:
        assert reject.check and reject.reason


VALID = [
    encoded(NOISE, "PNG"),
    encoded(NOISE, "JPEG"),
    encoded(NOISE, "WEBP"),
    encoded(NOISE.quantize(16), "GIF"),
    encoded(NOISE, "TIFF"),
    encoded(NOISE, "BMP"),
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(VALID), st.data())
def test_damaged_images_are_images_or_rejects(whole: bytes, draw: st.DataObject) -> None:
    data = bytearray(whole)
    for place in draw.draw(st.lists(st.integers(0, len(whole) - 1), max_size=12)):
        data[place] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(whole)))
    try:
        assert decode_rgb(bytes(data[:cut]), 10_000).mode == "RGB"
    except Rejected as reject:
        assert reject.check and reject.reason


def test_poison_has_its_own_names() -> None:
    assert check_of(b"") == "empty"
    assert check_of(b"just some text, no picture at all") == "not_an_image"
    assert check_of(bomb(60_000, 60_000)) == "too_large"
    assert check_of(encoded(NOISE), max_pixels=2399) == "too_large"
    assert check_of(encoded(NOISE, "JPEG")[:-600]) == "truncated"
    assert check_of(encoded(NOISE)[:-600]) in ("truncated", "unreadable")
    assert decode_rgb(encoded(NOISE), 2400).size == (60, 40)


def test_odd_modes_come_out_as_what_they_show() -> None:
    red = Image.new("RGB", (20, 20), (250, 10, 10))
    close = [decode_rgb(encoded(red.convert("CMYK"), "TIFF"), 400), decode_rgb(encoded(red.quantize(4), "PNG"), 400)]
    for image in close:
        assert np.abs(np.asarray(image, int) - (250, 10, 10)).max() < 12
    deep = Image.fromarray(np.full((20, 20), 0x8080, np.uint16))
    assert np.unique(np.asarray(decode_rgb(encoded(deep), 400))).tolist() == [128]
    assert decode_rgb(encoded(Image.new("L", (20, 20), 77)), 400).getpixel((3, 3)) == (77, 77, 77)


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0] * 256)
    for data in (encoded(clear), encoded(palette, transparency=0)):
        assert decode_rgb(data, 400).getpixel((5, 5)) == (255, 255, 255)


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image = decode_rgb(encoded(NOISE, "JPEG", exif=exif), MAX_PIXELS)
    assert image.size == (40, 60)
    expected = np.asarray(Image.open(io.BytesIO(encoded(NOISE, "JPEG"))).transpose(Image.Transpose.ROTATE_270), int)
    assert np.abs(np.asarray(image, int) - expected).mean() < 2


def test_folder_reads_good_files_and_names_what_is_wrong_with_the_others(tmp_path: Path) -> None:
    deep = tmp_path / "b"
    deep.mkdir()
    (tmp_path / "a.png").write_bytes(encoded(NOISE))
    (tmp_path / "a.txt").write_text("  coloured\nnoise ")
    (deep / "c.jpg").write_bytes(encoded(NOISE, "JPEG"))
    (deep / "cut.jpg").write_bytes(encoded(NOISE, "JPEG")[:-600])
    (deep / "empty.png").write_bytes(b"")
    (deep / "notes.md").write_text("no picture")
    (deep / "small.png").write_bytes(encoded(NOISE.resize((4, 4))))
    (deep / ".hidden.png").write_bytes(encoded(NOISE))
    reader = build_reader(FolderConfig(reader="folder", path=str(tmp_path), licence="CC0-1.0"))
    outcome = {}
    for place in reader.locations():
        try:
            outcome[place.origin] = reader.read(place, 32, MAX_PIXELS)["caption"]
        except Rejected as reject:
            outcome[place.origin] = reject.check
    assert outcome == {
        "folder:a.png": "coloured noise",
        "folder:b/c.jpg": "",
        "folder:b/cut.jpg": "truncated",
        "folder:b/empty.png": "empty",
        "folder:b/notes.md": "not_an_image",
        "folder:b/small.png": "too_small",
    }


def test_a_file_that_went_away_is_a_reject(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(NOISE))
    reader = build_reader(FolderConfig(reader="folder", path=str(tmp_path), licence="CC0-1.0"))
    place = reader.locations()[0]
    path.unlink()
    with pytest.raises(Rejected, match="unreadable"):
        reader.read(place, 32, MAX_PIXELS)


def test_a_missing_folder_and_missing_tools_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="does not exist; correct"):
        build_reader(FolderConfig(reader="folder", path=str(tmp_path / "no"), licence="CC0-1.0"))
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
