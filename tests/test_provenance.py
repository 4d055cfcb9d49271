"""What a PNG says of how it was made: written, read back, and not believed blindly."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorweb.provenance import input_facts, local_lineage, pixel_hash, png_with_facts, read_facts
from tests.kontext_tiny import drawn_image

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_facts_come_back_as_they_were_and_pixels_stay(tmp_path_factory, facts):
    image, path = drawn_image(1), tmp_path_factory.getbasetemp() / "facts.png"
    path.write_bytes(png_with_facts(image, facts))
    assert read_facts(path) == facts
    assert Image.open(path).tobytes() == image.tobytes()
    assert png_with_facts(image, dict(reversed(facts.items()))) == path.read_bytes(), "equal facts, equal bytes"


def test_the_hash_is_of_pixels_and_not_of_files(tmp_path):
    image = drawn_image(3, 24, 16)
    for name in ("one.png", "two.bmp", "three.tiff"):
        image.save(tmp_path / name)
    found = {pixel_hash(Image.open(tmp_path / name)) for name in ("one.png", "two.bmp", "three.tiff")}
    plain = hashlib.sha256(b"24x16|" + np.asarray(image).tobytes()).hexdigest()
    assert found == {plain}
    other = image.copy()
    other.putpixel((0, 0), (1, 2, 3))
    assert pixel_hash(other) != plain != pixel_hash(image.transpose(Image.Transpose.ROTATE_90))
    told = input_facts({"a": image, "b": other}, {"a": "one.png"})
    assert told == {
        "a": {"pixels_sha256": plain, "name": "one.png"},
        "b": {"pixels_sha256": pixel_hash(other)},
    }


def png_saying(text: str) -> bytes:
    info, png = PngInfo(), io.BytesIO()
    info.add_text("lorweb", text)
    drawn_image(1).save(png, "PNG", pnginfo=info)
    return png.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png_saying("{"), "is no JSON"),
        (png_saying("[1]"), "holds no JSON object"),
        (png_saying("[" * 100_000), "is no JSON"),
        (png_saying(json.dumps({"x": "y" * 1_000_001})), "not a PNG that can be read|which lorweb never writes"),
        (png_saying("{}")[:-30], "not a PNG that can be read"),
        (b"text", "not a PNG that can be read"),
        (b"", "not a PNG that can be read"),
    ],
)
def test_what_is_no_recipe_is_refused_with_a_sentence(tmp_path, content, words):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_facts(tmp_path / "x.png")


def test_a_picture_of_another_program_says_so(tmp_path):
    drawn_image(1).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"does not say how it was made.*other programs drop the chunk"):
        read_facts(tmp_path / "x.png")
    drawn_image(1).save(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="not a PNG"):
        read_facts(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"lineage": {"content_sha256": "c", "git_commit": "g"}}', {"content_sha256": "c", "git_commit": "g"}),
        ('{"lineage": {"content_sha256": "d", "git_commit": "g"}}', {}),
        ('{"lineage": []}', {}),
        ("[]", {}),
        ("{", {}),
        (None, {}),
    ],
)
def test_the_lineage_of_a_folder_is_that_of_the_promotion_of_its_own_bytes(tmp_path: Path, text, found):
    (tmp_path / "candidate").mkdir()
    if text is not None:
        (tmp_path / "promoted.json").write_text(text)
    assert local_lineage(tmp_path / "candidate", "c") == found
