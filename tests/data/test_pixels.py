"""Pixel scores that no library has: an image that breaks off, and where the strongest edges are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

from lorweb.data.pixels import outline_features, pixel_scores


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [
        Image.fromarray(x).convert("RGB").resize((96, 80)) for x in (data.astronaut(), data.chelsea(), data.coffee())
    ]


@pytest.mark.slow
@given(st.integers(0, 80), st.integers(0, 255))
def test_the_rows_that_broke_off_are_counted(rows, grey):
    before = Image.fromarray(data.astronaut()).resize((96, 80))
    v = np.asarray(before).copy()
    v[80 - rows :] = grey
    assert pixel_scores(before, Image.fromarray(v))["cut"] == pytest.approx(rows / 80)


def test_an_end_that_a_has_too_is_no_cut(photos):
    v = np.asarray(photos[0]).copy()
    v[60:] = 255
    before = Image.fromarray(v)
    assert pixel_scores(before, ImageOps.invert(before))["cut"] == 0.0
    assert pixel_scores(before, photos[0])["cut"] == 0.0, "less than a has is none"
    noisy = np.clip(v.astype(int) + np.random.default_rng(0).integers(-1, 2, v.shape), 0, 255).astype(np.uint8)
    assert pixel_scores(photos[0], Image.fromarray(noisy))["cut"] == pytest.approx(0.25), "the noise of a codec"


def cosine(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_repainting_leaves_the_outline_and_another_image_has_another(photos):
    repaint = [ImageOps.invert, ImageOps.grayscale, lambda i: ImageOps.posterize(i, 3), ImageEnhance.Contrast]
    for photo in photos:
        own = outline_features(photo)
        others = [cosine(own, outline_features(other)) for other in photos if other is not photo]
        for edit in repaint:
            edited = edit(photo)
            edited = edited.enhance(0.4) if isinstance(edited, ImageEnhance.Contrast) else edited
            assert cosine(own, outline_features(edited)) > max(others) + 0.1


def test_an_outline_has_the_same_width_at_any_size(photos):
    assert outline_features(photos[0]).shape == outline_features(photos[0].resize((11, 300))).shape == (576,)
    flat = outline_features(Image.new("RGB", (40, 40), (9, 9, 9)))
    assert np.isfinite(flat).all()
