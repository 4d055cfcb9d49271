"""Random views: plain numpy indexing, one for all images of an analogy, and never of the composed grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lorweb.kontext.geometry import RandomView, ViewRule, draw_view
from lorweb.kontext.grid import Size, compose, control_grid, fit_image, quadrant_of
from tests.kontext_tiny import drawn_image

RULE = ViewRule(smallest=0.4, flips=0.5)
SHARES = st.floats(0.05, 1.0)
SIDES = st.integers(1, 60)


def coordinates(width: int, height: int) -> Image.Image:
    """Every pixel names its own column and row."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))


@settings(deadline=None)
@given(width=SIDES, height=SIDES, side=SHARES, left=SHARES, top=SHARES, flipped=st.booleans())
def test_a_view_is_numpy_indexing(width: int, height: int, side: float, left: float, top: float, flipped: bool) -> None:
    view = RandomView(left * (1 - side), top * (1 - side), side, flipped)
    found = np.asarray(view.apply(coordinates(width, height)))
    columns, rows = max(1, round(side * width)), max(1, round(side * height))
    x0, y0 = int(found[..., 0].min()), int(found[..., 1].min())
    expected = np.asarray(coordinates(width, height))[y0 : y0 + rows, x0 : x0 + columns]
    np.testing.assert_array_equal(found, expected[:, ::-1] if flipped else expected)
    for at, exact, last in ((x0, view.left * width, width - columns), (y0, view.top * height, height - rows)):
        assert abs(at - exact) <= 0.5 or (at == last < exact), "to the nearest pixel, inside the image"


@settings(deadline=None)
@given(number=st.integers(0, 999), smallest=st.floats(0.01, 1))
def test_drawn_views_lie_inside_and_keep_to_the_rule(number: int, smallest: float) -> None:
    view = draw_view(ViewRule(smallest, 0.5), number)
    assert smallest <= view.side <= 1
    assert 0 <= view.left <= 1 - view.side and 0 <= view.top <= 1 - view.side


def test_a_view_depends_on_its_number_alone() -> None:
    view = draw_view(RULE, 7)
    assert draw_view(RULE, 7) == view and len({draw_view(RULE, number) for number in range(99)}) == 99
    assert view == RandomView(*GOLDEN), "training is resumed by later versions: the same number keeps the same view"


GOLDEN = (0.014540542149402785, 0.511527412662143, 0.47288691981859327, False)


def test_views_fill_their_range_evenly() -> None:
    views = [draw_view(RULE, i) for i in range(2000)]
    sides = np.array([view.side for view in views])
    places = np.array([view.left / (1 - view.side) for view in views])
    for values, low, high in ((sides, 0.4, 1.0), (places, 0.0, 1.0)):
        assert np.histogram(values, bins=5, range=(low, high))[0].min() > 320
    assert np.mean([view.flipped for view in views]) == pytest.approx(0.5, abs=0.04)
    assert np.corrcoef(sides, [view.top / (1 - view.side) for view in views])[0, 1] == pytest.approx(0, abs=0.08)


def test_the_ends_of_the_rule() -> None:
    whole = [draw_view(ViewRule(1.0, 0.0), i) for i in range(50)]
    assert set(whole) == {RandomView(0.0, 0.0, 1.0, False)}
    image = drawn_image(0, 33, 21)
    assert whole[0].apply(image).tobytes() == image.tobytes()
    assert all(draw_view(ViewRule(0.5, 1.0), i).flipped for i in range(50))


@pytest.mark.parametrize(
    ("smallest", "flips", "message"),
    [
        (0.0, 0.5, "smallest crop is 0.0"),
        (1.1, 0.5, "smallest crop is 1.1"),
        (float("nan"), 0.5, "smallest crop is nan"),
        (0.5, -0.1, "share of flips is -0.1"),
        (0.5, 2, "share of flips is 2"),
    ],
)
def test_rules_that_are_none_are_refused(smallest: float, flips: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewRule(smallest, flips)


@settings(deadline=None)
@given(width=st.integers(4, 60), height=st.integers(4, 60), index=st.integers(0, 999))
def test_a_pair_stays_aligned(width: int, height: int, index: int) -> None:
    """a' = 255 - a before and after: what changed between them changes in the view, pixel by pixel."""
    a = drawn_image(index, width, height)
    view = draw_view(RULE, index)
    edited_view = view.apply(ImageOps.invert(a))
    assert edited_view.tobytes() == ImageOps.invert(view.apply(a)).tobytes()
    quadrant = Size(16, 24)
    ours, theirs = (fit_image(image, quadrant, "crop")[0] for image in (view.apply(a), edited_view))
    off = np.abs(np.asarray(ours, dtype=int) + np.asarray(theirs) - 255)
    assert off.max() <= 3, "fitted alike as well; resizing rounds twice in each"


@settings(deadline=None)
@given(width=st.integers(20, 60), height=st.integers(20, 60), index=st.integers(0, 999))
def test_a_pair_of_two_sizes_shows_the_same_part(width: int, height: int, index: int) -> None:
    """a' of twice the size: each side of its crop is twice that of a, and as far in, to within a pixel of a."""
    view = draw_view(ViewRule(0.4, 0.0), index)
    small, large = (np.asarray(view.apply(coordinates(k * width, k * height))).astype(int) for k in (1, 2))
    assert abs(large.shape[0] - 2 * small.shape[0]) <= 1 and abs(large.shape[1] - 2 * small.shape[1]) <= 1
    assert np.abs(large[0, 0, :2] - 2 * small[0, 0, :2]).max() <= 2


def test_flipping_the_grid_is_not_flipping_its_quadrants() -> None:
    """The known fault: the flipped grid shows a' where a belongs, and the two grids agree on no quadrant."""
    a, a2, b, b2 = (drawn_image(i, 24, 16) for i in range(4))
    view = RandomView(0.0, 0.0, 1.0, flipped=True)
    ours = control_grid(view.apply(a), view.apply(a2), view.apply(b))
    fault = ImageOps.mirror(control_grid(a, a2, b))
    assert ours.tobytes() != fault.tobytes()
    assert quadrant_of(ours, 0, 0).tobytes() == ImageOps.mirror(a).tobytes()
    assert quadrant_of(fault, 0, 0).tobytes() == ImageOps.mirror(a2).tobytes(), "a' took the place of a"
    target = ImageOps.mirror(compose(a, a2, b, b2))
    assert quadrant_of(target, 1, 0).tobytes() == ImageOps.mirror(b2).tobytes(), "the answer took the place of b"
    cropped = RandomView(0.25, 0.0, 0.5, flipped=False)
    assert quadrant_of(compose(*(cropped.apply(i) for i in (a, a2, b, b2))), 0, 1).tobytes() != (
        quadrant_of(cropped.apply(compose(a, a2, b, b2)), 0, 1).tobytes()
    ), "and so is cropping"
