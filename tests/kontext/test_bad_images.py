"""Every odd kind of image in every role: the defined result, or a sentence that names the role."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.commands import read_image
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size
from lorweb.kontext.images import UPRIGHT, as_rgb
from lorweb.kontext.load import load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from tests.kontext.bad_images import IN_MEMORY, PICTURE, REFUSED, TAKEN, cut, stored
from tests.kontext.made import CONFIG, same, train
from tests.kontext_tiny import PixelEncoder, drawn_image

ROLES = ["a", "a'", "b"]
NAMES = {"a": "a", "a'": "a'", "b": "b[0]"}
pytestmark = [  # PIL's own, on the way to our sentence
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read"),
]


@pytest.fixture(scope="module")
def pipe(base_folder: Path) -> Iterator[AnalogyPipeline]:
    base = load_base(str(base_folder), torch.float32, "cpu")
    train(base)
    made = AnalogyPipeline(base, PixelEncoder(), CONFIG, CanvasRule(Size(32, 32)))
    made.steps = 1
    return made


def ask(pipe: AnalogyPipeline, role: str, image: Image.Image, partner: tuple[int, int]) -> Image.Image:
    """b' with `image` in one role and drawn images of `partner` size in the others."""
    a, a2, b = (drawn_image(seed, *partner) for seed in range(3))
    return pipe(*{"a": (image, a2, b), "a'": (a, image, b), "b": (a, a2, image)}[role]).images[0]


@pytest.mark.parametrize("kind", TAKEN)
def test_what_is_taken_shows_the_picture_that_it_is_meant_to_be(kind: str, tmp_path: Path) -> None:
    odd = TAKEN[kind]()
    path = tmp_path / f"odd{odd.suffix}"
    path.write_bytes(odd.data)
    read = read_image(path)
    assert (read.mode, read.size, read.info) == ("RGB", odd.shows.size, {})
    off = np.abs(np.asarray(read, dtype=int) - np.asarray(odd.shows))
    assert off.max() <= odd.by and off.mean() <= min(odd.by, 6), (off.max(), off.mean())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", TAKEN)
def test_in_every_role_it_counts_as_that_picture(pipe: AnalogyPipeline, kind: str, role: str) -> None:
    odd = TAKEN[kind]()
    partner = (16 * odd.shows.width // odd.shows.height, 16)  # of the same aspect
    found = ask(pipe, role, Image.open(io.BytesIO(odd.data)), partner)
    plain = as_rgb(Image.open(io.BytesIO(odd.data)), kind)
    assert same(found, ask(pipe, role, plain, partner))
    if role == "b":
        assert found.size == odd.shows.size
    if odd.shows.size == (1, 1):
        return  # one pixel more or less may round away
    other = Image.fromarray(255 - np.asarray(plain))
    assert not same(found, ask(pipe, role, other, partner)), "the picture does not matter in this role"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", REFUSED)
def test_in_every_role_the_sentence_names_it(pipe: AnalogyPipeline, kind: str, role: str) -> None:
    make, _, sentence = REFUSED[kind]
    with pytest.raises(ValueError, match=f"^{re.escape(NAMES[role])} .*{re.escape(sentence.split(' ', 1)[1])}"):
        ask(pipe, role, Image.open(io.BytesIO(make())), (32, 16))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", IN_MEMORY)
def test_what_no_file_can_hold_is_refused_as_well(pipe: AnalogyPipeline, kind: str, role: str) -> None:
    image, sentence = IN_MEMORY[kind]
    with pytest.raises(ValueError, match=f"^{re.escape(NAMES[role])} {re.escape(sentence)}"):
        ask(pipe, role, image, (32, 16))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_refused_is_named(kind: str, tmp_path: Path) -> None:
    make, suffix, sentence = REFUSED[kind]
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(make())
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} .*{re.escape(sentence.split(' ', 1)[1])}"):
        read_image(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"hello", stored(PICTURE, "PNG")[:30], stored(PICTURE, "JPEG")[:20], cut("WEBP")],
    ids=["empty", "a GIF's first bytes", "text", "half a PNG header", "half a JPEG header", "two thirds of a WebP"],
)
def test_what_is_no_image_is_named_as_such(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is not an image that can be read"):
        read_image(path)
    with pytest.raises(FileNotFoundError, match="no image at"):
        read_image(tmp_path / "absent.png")


def test_a_file_cut_anywhere_is_read_or_named(tmp_path: Path) -> None:
    path, refused = tmp_path / "cut", 0
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = stored(drawn_image(0, 24, 16), kind)
        for end in range(0, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(whole[:end])
            try:
                assert read_image(path).size == (24, 16)
            except ValueError as error:
                refused += 1
                assert str(error).startswith(f"{path} "), f"{kind} cut at {end}: {error}"
    assert refused > 100


def test_every_exif_orientation_is_undone() -> None:
    """Oracle: EXIF's own table, as the row and the column of the stored image that the upright one begins with."""
    first = {2: "top right", 3: "bottom right", 4: "bottom left", 5: "left top", 6: "right top", 7: "right bottom"}
    first[8] = "left bottom"
    assert set(UPRIGHT) == set(first)
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for orientation, place in first.items():
        stored_rows = upright if place.split()[0] in ("top", "bottom") else upright.T
        # "right top": the 0th row is at the right of the picture, the 0th column at its top
        for side, axis in zip(place.split(), (0, 1), strict=True):
            if side in ("bottom", "right"):
                stored_rows = np.flip(stored_rows, axis)
        image = Image.fromarray(np.ascontiguousarray(stored_rows))
        image.getexif()[0x0112] = orientation
        np.testing.assert_array_equal(np.asarray(as_rgb(image, "a"))[..., 0], upright, err_msg=place)


def test_a_pair_of_two_aspects_is_refused_or_stretched(pipe: AnalogyPipeline) -> None:
    a, a2, b = drawn_image(0, 40, 20), drawn_image(1, 20, 40), drawn_image(2)
    with pytest.raises(ValueError, match=r"a has 40x20 px and a' has 20x40 px.*crop one of them to the other"):
        pipe(a, a2, b)
    rule = pipe.rule
    try:
        pipe.rule = CanvasRule(Size(32, 32), fit="stretch")
        assert pipe(a, a2, b).images[0].size == b.size
    finally:
        pipe.rule = rule
