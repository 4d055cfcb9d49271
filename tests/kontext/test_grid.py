"""The canvas is geometry alone, so its promises hold for every size: hypothesis draws the sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lorweb.kontext.grid import (
    Size,
    check_exemplar,
    compose,
    compose_latents,
    control_grid,
    control_latents,
    fit_image,
    placement,
    quadrant_like,
    quadrant_of,
    quadrant_of_latents,
    restore,
)
from tests.kontext_tiny import drawn_image

SIDES = st.integers(1, 24)
CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@settings(deadline=None)
@given(width=SIDES, height=SIDES)
def test_composed_images_come_back_from_their_own_quadrant(width: int, height: int) -> None:
    images = [noise(width, height, seed) for seed in range(4)]
    grid = compose(*images)
    assert grid.size == (2 * width, 2 * height)
    for image, (row, column) in zip(images, CORNERS, strict=True):
        assert quadrant_of(grid, row, column).tobytes() == image.tobytes()


@settings(deadline=None)
@given(height=SIDES, width=SIDES, channels=st.integers(1, 3))
def test_composed_latents_come_back_from_their_own_quadrant(height: int, width: int, channels: int) -> None:
    parts = [torch.randn(2, channels, height, width) for _ in range(4)]
    grid = compose_latents(*parts)
    assert grid.shape == (2, channels, 2 * height, 2 * width)
    for part, (row, column) in zip(parts, CORNERS, strict=True):
        assert torch.equal(quadrant_of_latents(grid, row, column), part)


def test_the_control_grid_shows_the_query_twice_and_the_exemplar_on_top() -> None:
    a, a2, b = (noise(6, 4, seed) for seed in range(3))
    grid = control_grid(a, a2, b)
    shown = [quadrant_of(grid, row, column).tobytes() for row, column in CORNERS]
    assert shown == [image.tobytes() for image in (a, a2, b, b)]
    za, za2, zb = (torch.randn(1, 16, 4, 6) for _ in range(3))
    assert torch.equal(control_latents(za, za2, zb), compose_latents(za, za2, zb, zb))


def test_quadrants_of_different_sizes_are_refused() -> None:
    with pytest.raises(AssertionError, match="quadrants differ"):
        compose(noise(4, 4, 0), noise(4, 4, 0), noise(4, 6, 0), noise(4, 4, 0))
    z = torch.zeros(1, 16, 4, 4)
    with pytest.raises(AssertionError, match="quadrants differ"):
        compose_latents(z, z, z, z[..., :2])


@settings(deadline=None)
@given(w=st.integers(1, 90), h=st.integers(1, 90), W=st.integers(1, 40), H=st.integers(1, 40))
def test_fit_fills_the_quadrant_and_padding_or_stretching_gives_the_size_back(w: int, h: int, W: int, H: int) -> None:
    image = noise(w, h, 0)
    for fit in ("crop", "pad", "stretch"):
        fitted, where = fit_image(image, Size(H, W), fit)  # type: ignore[arg-type]
        assert fitted.size == (W, H)
        back = restore(fitted, where)
        if fit != "crop":
            assert back.size == image.size
        else:
            assert back.width <= w and back.height <= h


@settings(deadline=None)
@given(w=st.integers(8, 400), h=st.integers(8, 400), W=st.integers(8, 64), H=st.integers(8, 64))
def test_crop_and_pad_never_stretch(w: int, h: int, W: int, H: int) -> None:
    crop = placement(Size(h, w), Size(H, W), "crop")
    source_width, source_height = crop.source.right - crop.source.left, crop.source.bottom - crop.source.top
    assert source_width / source_height == pytest.approx(W / H, rel=1e-6)
    assert crop.source.left == pytest.approx(w - crop.source.right)  # the centre
    pad = placement(Size(h, w), Size(H, W), "pad").target
    scale = min(W / w, H / h)
    assert abs((pad.right - pad.left) - w * scale) <= max(0.5, 1 - w * scale)
    assert abs((pad.bottom - pad.top) - h * scale) <= max(0.5, 1 - h * scale)


def test_an_image_of_the_quadrants_size_is_not_touched() -> None:
    image = noise(20, 12, 1)
    for fit in ("crop", "pad", "stretch"):
        fitted, where = fit_image(image, Size(12, 20), fit)  # type: ignore[arg-type]
        assert fitted.tobytes() == image.tobytes() == restore(fitted, where).tobytes()


def test_width_and_height_are_not_confused() -> None:
    wide = drawn_image(0, 80, 40)
    crop = placement(Size(40, 80), Size(20, 20), "crop").source
    assert crop.corners == (20, 0, 60, 40)
    pad = placement(Size(40, 80), Size(20, 20), "pad").target
    assert pad.corners == (0, 5, 20, 15)
    odd = placement(Size(15, 20), Size(20, 20), "pad").target, placement(Size(20, 15), Size(20, 20), "pad").target
    assert [box.corners for box in odd] == [(0, 2, 20, 17), (2, 0, 17, 20)], "of an odd margin the larger part is last"
    fitted, where = fit_image(wide, Size(20, 20), "pad")
    rows = np.asarray(fitted)
    assert (rows[:5] == rows[5]).all() and (rows[15:] == rows[14]).all(), "padding repeats the edge"
    difference = np.abs(np.asarray(restore(fitted, where), dtype=float) - np.asarray(wide)).mean()
    assert difference < 12, "the picture comes back, blurred by the smaller quadrant"


def test_images_are_resampled_by_lanczos_both_ways() -> None:
    """Pillow on the cut out part is the oracle: nearest or bilinear pixels would be another training set."""
    image = noise(80, 40, 3)
    small = {
        "pad": image.resize((20, 10), Image.Resampling.LANCZOS),
        "stretch": image.resize((20, 20), Image.Resampling.LANCZOS),
        "crop": image.crop((20, 0, 60, 40)).resize((20, 20), Image.Resampling.LANCZOS),
    }
    for fit in ("pad", "stretch"):
        fitted, where = fit_image(image, Size(20, 20), fit)  # type: ignore[arg-type]
        content = fitted.crop(tuple(int(v) for v in where.target.corners))
        assert content.tobytes() == small[fit].tobytes()
        assert restore(fitted, where).tobytes() == content.resize((80, 40), Image.Resampling.LANCZOS).tobytes()
    cropped, _ = fit_image(image, Size(20, 20), "crop")
    inner = (slice(2, -2), slice(2, -2))  # at its border the filter may see beyond the cut
    np.testing.assert_allclose(np.asarray(cropped)[inner].astype(int), np.asarray(small["crop"])[inner], atol=1)


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="fit is 'squash'"):
        placement(Size(3, 4), Size(8, 8), "squash")  # type: ignore[arg-type]


def test_an_exemplar_of_two_aspects_is_refused_with_both_sizes() -> None:
    check_exemplar(Size(100, 100), Size(300, 297), 0.05)
    check_exemplar(Size(20, 10), Size(40, 20), 0.0)
    with pytest.raises(ValueError, match=r"a has 200x100 px and a' has 100x200 px.*factor of 4\.00"):
        check_exemplar(Size(100, 200), Size(200, 100), 0.05)
    with pytest.raises(ValueError, match=r"a has 100x200 px and a' has 200x100 px.*factor of 4\.00, at most 1\.05"):
        check_exemplar(Size(200, 100), Size(100, 200), 0.05)


@settings(deadline=None)
@given(w=st.integers(16, 1600), h=st.integers(16, 1600))
def test_a_quadrant_like_b_has_its_orientation_and_whole_tokens(w: int, h: int) -> None:
    size = quadrant_like(Size(h, w), 512, 16)
    assert size.height % 16 == 0 and size.width % 16 == 0
    assert (size.width >= size.height) == (w >= h) or size.width == size.height
    if max(w, h) <= 4 * min(w, h):
        assert size.height * size.width == pytest.approx(512 * 512, rel=0.08)


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0), (-1, 4)])
def test_an_empty_size_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="at least 1x1"):
        Size(height, width)


def test_a_size_is_height_and_width_of_an_image_and_of_four() -> None:
    assert Size.of(noise(6, 4, 0)) == Size(height=4, width=6)
    assert Size(4, 6).doubled == Size.of(control_grid(*[noise(6, 4, 0)] * 3)) == Size(height=8, width=12)
