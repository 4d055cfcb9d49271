"""Composed and cut out again, every image is what it was: any sizes, every fit and shape, both kinds of latents.

The oracle is a picture given by a formula, so that it can be asked between pixels. Allowed: half of what it changes
over one pixel (the coarser one, of the original or of the quadrant), and 2 grey levels for rounding.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.grid import Placement, Size, compose, control_grid, fit_image, quadrant_of, restore
from lorweb.kontext.load import Base, load_base

SIDES = st.tuples(st.integers(1, 160), st.integers(1, 160)).filter(lambda s: max(s) <= 16 * min(s))
QUADRANTS = st.builds(lambda h, w: Size(16 * h, 16 * w), st.integers(1, 6), st.integers(1, 6))
FITS = st.sampled_from(["crop", "pad", "stretch"])
CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def corners_of(seed: int) -> np.ndarray:
    """Colours of top left, top right, bottom left, bottom right; nothing in them is symmetric."""
    return np.random.default_rng(seed).uniform(20, 235, (2, 2, 3))


def formula(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """A picture at columns x and rows y, as shares of its sides: bilinear between its corners' colours."""
    c, X, Y = corners_of(seed), x[None, :, None], y[:, None, None]
    shown: np.ndarray = (c[0, 0] * (1 - X) + c[0, 1] * X) * (1 - Y) + (c[1, 0] * (1 - X) + c[1, 1] * X) * Y
    return shown


def centres(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def drawn(size: tuple[int, int], seed: int) -> Image.Image:
    return Image.fromarray(formula(centres(size[0]), centres(size[1]), seed).round().astype(np.uint8))


def check_back(back: Image.Image, where: Placement, seed: int) -> None:
    """`back` is the part of the original that the placement names, as the formula says it is."""
    (left, top, right, bottom), target = where.source.corners, where.target
    h, w = where.original.height, where.original.width
    x = (left + centres(back.width) * (right - left)) / w
    y = (top + centres(back.height) * (bottom - top)) / h
    c = corners_of(seed)
    column = max(1 / w, (right - left) / w / (target.right - target.left))
    row = max(1 / h, (bottom - top) / h / (target.bottom - target.top))
    allowed = 2 + 0.5 * (np.abs(c[:, 1] - c[:, 0]).max() * column + np.abs(c[1] - c[0]).max() * row)
    off = np.abs(np.asarray(back, dtype=float) - formula(x, y, seed)).max()
    assert off <= allowed, (off, allowed, where)


@settings(deadline=None, max_examples=100)
@given(sizes=st.tuples(SIDES, SIDES, SIDES, SIDES), quadrant=QUADRANTS, fit=FITS, seed=st.integers(0, 999))
def test_four_images_of_any_size_come_back_from_their_quadrants(
    sizes: Any, quadrant: Size, fit: Any, seed: int
) -> None:
    placed = [fit_image(drawn(size, seed + i), quadrant, fit) for i, size in enumerate(sizes)]
    grid = compose(*(image for image, _ in placed))
    assert grid.size == (2 * quadrant.width, 2 * quadrant.height)
    for i, ((_, where), (row, column)) in enumerate(zip(placed, CORNERS, strict=True)):
        back = restore(quadrant_of(grid, row, column), where)
        if fit != "crop":
            assert back.size == sizes[i]
        check_back(back, where, seed + i)


@settings(deadline=None, max_examples=60)
@given(a=SIDES, bs=st.lists(SIDES, min_size=1, max_size=3), quadrant=QUADRANTS, fit=FITS, from_b=st.booleans())
def test_a_canvas_gives_every_b_back_whole_and_shows_a_and_a2_upright(
    a: tuple[int, int], bs: list[tuple[int, int]], quadrant: Size, fit: Any, from_b: bool
) -> None:
    rule = CanvasRule(quadrant, fit=fit, shape="from_b" if from_b else "fixed")
    bs = [b for b in bs if rule.quadrant_for(Size(b[1], b[0])) == rule.quadrant_for(Size(bs[0][1], bs[0][0]))]
    canvas = Canvas.of(Exemplar.of(drawn(a, 0), drawn(a, 1), rule), [drawn(b, 2) for b in bs], rule)
    used = rule.quadrant_for(Size(bs[0][1], bs[0][0]))
    for b, shown, where in zip(bs, canvas.b, canvas.placements, strict=True):
        grid = control_grid(canvas.a, canvas.a2, shown)
        assert grid.size == (2 * used.width, 2 * used.height)
        for corner in CORNERS[2:]:
            back = restore(quadrant_of(grid, *corner), where)
            assert back.size == b, "b is never cropped"
            check_back(back, where, 2)
        for seed, corner in enumerate(CORNERS[:2]):
            _, where_a = fit_image(drawn(a, seed), used, fit)
            check_back(restore(quadrant_of(grid, *corner), where_a), where_a, seed)


@settings(deadline=None)
@given(b=SIDES, quadrant=QUADRANTS)
def test_a_quadrant_from_b_keeps_the_area_and_bs_orientation(b: tuple[int, int], quadrant: Size) -> None:
    """Each side is the ideal one to within half a token, and at least one token; the ideal area is that of a square."""
    w, h = b
    found = CanvasRule(quadrant, shape="from_b").quadrant_for(Size(h, w))
    assert found.height % 16 == 0 and found.width % 16 == 0
    assert (found.width - found.height) * (w - h) >= 0, "wide stays wide, tall stays tall"
    side = round((quadrant.height * quadrant.width) ** 0.5)
    for length, ideal in ((found.width, side * (w / h) ** 0.5), (found.height, side * (h / w) ** 0.5)):
        assert length == 16 if ideal < 16 else abs(length - ideal) <= 8.001
    turned = CanvasRule(Size(quadrant.width, quadrant.height), shape="from_b").quadrant_for(Size(w, h))
    assert turned == Size(found.width, found.height)


@pytest.fixture(scope="module")
def tiny() -> Base:
    return load_base("tiny", torch.float32, "cpu")


@settings(deadline=None, max_examples=12)
@given(
    size=st.tuples(st.integers(16, 160), st.integers(16, 160)).filter(lambda s: max(s) <= 4 * min(s)),
    quadrant=st.builds(lambda h, w: Size(16 * h, 16 * w), st.integers(2, 5), st.integers(2, 5)),
    latents=st.sampled_from(["quadrant", "grid"]),
    from_b=st.booleans(),
)
def test_b_comes_back_through_the_packaged_codec(
    tiny: Base, size: tuple[int, int], quadrant: Size, latents: Any, from_b: bool
) -> None:
    """Encoded and decoded without a model between, b is b up to the loss of the codec, of its own size, upright."""
    rule = CanvasRule(quadrant, shape="from_b" if from_b else "fixed", latents=latents)
    b = drawn(size, 2)
    canvas = Canvas.of(Exemplar.of(drawn(size, 0), drawn(size, 1), rule), [b, b], rule)
    control = canvas.encode(tiny, rule)
    used = rule.quadrant_for(Size.of(b))
    assert control.shape == (2, 16, 2 * used.height // 8, 2 * used.width // 8)
    for back in canvas.decode(tiny, control, rule):
        assert back.size == size
        assert np.abs(np.asarray(back, dtype=float) - np.asarray(b)).mean() < 8
    other = "grid" if latents == "quadrant" else "quadrant"
    same = canvas.encode(tiny, CanvasRule(rule.quadrant, rule.fit, rule.shape, rule.tolerance, other))  # type: ignore[arg-type]
    torch.testing.assert_close(same, control, atol=1e-4, rtol=1e-4)  # the packaged codec sees no seams
