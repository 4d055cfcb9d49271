"""Whatever a person opens becomes upright 8-bit RGB, or a sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorweb.kontext.images import MAX_PIXELS, as_rgb

RED, GREEN = (200, 10, 10), (10, 200, 10)


def half_and_half() -> Image.Image:
    """4x2 px: left red, right green."""
    image = Image.new("RGB", (4, 2), RED)
    image.paste(GREEN, (2, 0, 4, 2))
    return image


def test_rgb_is_copied_not_shared() -> None:
    image = half_and_half()
    result = as_rgb(image, "a")
    assert result.tobytes() == image.tobytes()
    result.putpixel((0, 0), (0, 0, 0))
    assert image.getpixel((0, 0)) == RED


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "L", "1", "LA", "YCbCr"])
def test_other_modes_become_rgb_of_the_same_size(mode: str) -> None:
    source = half_and_half()
    image = {"P": source.quantize(8), "LA": source.convert("L").convert("LA")}.get(mode) or source.convert(mode)
    assert image.mode == mode
    result = as_rgb(image, "a")
    assert (result.mode, result.size) == ("RGB", (4, 2))
    if mode in ("RGBA", "P", "CMYK", "YCbCr"):
        assert np.abs(np.asarray(result, dtype=int) - np.asarray(source)).max() <= 3


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 10, 10, 255))
    image.putpixel((1, 0), (200, 10, 10, 0))
    result = as_rgb(image, "a")
    assert [result.getpixel((0, 0)), result.getpixel((1, 0))] == [RED, (255, 255, 255)]
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *GREEN])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 1
    assert as_rgb(palette, "a").getpixel((1, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    image = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert image.mode.startswith("I;16")
    assert list(np.asarray(as_rgb(image, "a"))[0, :, 0]) == [0, 128, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"b\\[1\\] has mode {mode}"):
        as_rgb(Image.new(mode, (4, 4)), "b[1]")


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    half_and_half().resize((40, 20), Image.Resampling.NEAREST).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    result = as_rgb(Image.open(tmp_path / "turned.jpg"), "a")
    assert result.size == (20, 40)
    assert result.getpixel((10, 5))[0] > 150 and result.getpixel((10, 35))[1] > 150, "red on top, green below"


def test_a_truncated_file_is_named() -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(stream, "PNG")
    broken = Image.open(io.BytesIO(stream.getvalue()[: stream.tell() // 2]))
    with pytest.raises(ValueError, match=r"photo\.png cannot be decoded"):
        as_rgb(broken, "photo.png")


def test_extreme_shapes_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(ValueError, match="1x4000 px; its sides"):
        as_rgb(Image.new("RGB", (1, 4000)), "b")
    huge = Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1))
    with pytest.raises(ValueError, match="more than the limit"):
        as_rgb(huge, "b")
    assert as_rgb(Image.new("RGB", (1, 1), RED), "b").size == (1, 1)
    assert as_rgb(Image.new("RGB", (1, 16), RED), "b").size == (1, 16)
