"""Decoding: whatever the bytes, an RGB image that shows what the file shows, or a reject with the right name."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lorweb.data.decode import decode_rgb
from lorweb.data.rejects import Rejected
from tests.data.pictures import bomb, encoded
from tests.data.world import MAX_PIXELS


def check_of(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(Rejected) as caught:
        decode_rgb(data, max_pixels)
    assert caught.value.reason
    return caught.value.check


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


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
    assert check_of(encoded(NOISE)[:-600]) == "truncated"
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


@pytest.mark.parametrize("whole", VALID, ids=["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_file_that_was_cut_off_is_called_so(whole: bytes) -> None:
    """Unless nothing is missing of the picture: PNG and GIF have a mark behind it."""
    expected, named = decode_rgb(whole, 10_000).tobytes(), 0
    for cut in (*range(16, 400), *range(400, len(whole), 37), *range(len(whole) - 50, len(whole))):
        try:
            assert decode_rgb(whole[:cut], 10_000).tobytes() == expected
        except Rejected as reject:
            named += 1
            assert reject.check == "truncated", (cut, reject)
    assert named > 400


def test_damage_without_loss_is_not_called_cut_off() -> None:
    data = bytearray(encoded(NOISE))
    data[60:90] = bytes(30)
    assert check_of(bytes(data)) == "unreadable"
