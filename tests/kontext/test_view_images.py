"""What the encoder looks at, view by view, and the query it makes of that."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lorweb.basis.query import MODES, query_dim
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.grid import Size, control_grid
from lorweb.kontext.query import VIEWS, query_of, squared, view_image
from tests.kontext_tiny import PatchPixelEncoder, PixelEncoder, drawn_image

A, A2, B = (drawn_image(i, 32, 16) for i in range(3))
COLOURS = [(220, 30, 30), (30, 200, 30), (30, 30, 220)]  # of a, a', b


def test_single_views_are_the_images_and_composed_ones_the_grid_on_a_black_square() -> None:
    for view, image in (("a", A), ("a2", A2), ("b", B)):
        assert view_image(view, A, A2, B) is image  # type: ignore[arg-type]
    quadrants = [np.asarray(image) for image in (A, A2, B)]
    top = np.hstack(quadrants[:2])
    zero = np.zeros_like(quadrants[2])
    for view, shown in (
        ("top", top),
        ("grid", np.vstack([top, np.hstack([quadrants[2], quadrants[2]])])),
        ("grid_blank", np.vstack([top, np.hstack([quadrants[2], zero])])),
    ):
        margin = np.zeros(((64 - len(shown)) // 2, 64, 3), dtype=np.uint8)
        found = np.asarray(view_image(view, A, A2, B))  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, np.vstack([margin, shown, margin]), err_msg=view)


def test_tall_views_lie_in_the_middle_too() -> None:
    a, a2, b = (drawn_image(i, 16, 32) for i in range(3))
    found = np.asarray(view_image("grid", a, a2, b))
    assert found.shape == (64, 64, 3)
    np.testing.assert_array_equal(found[:, 16:48], np.asarray(control_grid(a, a2, b)))
    assert (found[:, :16] == 0).all() and (found[:, 48:] == 0).all()


def test_square_grids_are_not_touched() -> None:
    a, a2, b = (drawn_image(i, 24, 24) for i in range(3))
    assert view_image("grid", a, a2, b).tobytes() == control_grid(a, a2, b).tobytes()


@settings(deadline=None, max_examples=40)
@given(
    view=st.sampled_from(["top", "grid", "grid_blank"]),
    sides=st.tuples(st.integers(16, 64), st.integers(16, 64)).filter(lambda s: max(s) <= 4 * min(s)),
)
def test_no_quadrant_is_lost_in_the_encoders_own_preprocessing(view: str, sides: tuple[int, int]) -> None:
    """What CLIP is given at 32 px, for quadrants from 1:4 to 4:1: each colour covers the share it has in the view."""
    images = [Image.new("RGB", sides, colour) for colour in COLOURS]
    seen = shown_to_clip(view_image(view, *images))  # type: ignore[arg-type]
    share = min(sides) / max(sides) / 4 if view != "top" else min(sides[1] / sides[0], 4 * sides[0] / sides[1]) / 4
    expected = {"top": (1, 1, 0), "grid": (1, 1, 2), "grid_blank": (1, 1, 1)}[view]
    for colour, times in zip(COLOURS, expected, strict=True):
        found = float((np.abs(seen - colour).max(-1) < 60).mean())
        assert found == pytest.approx(times * share, abs=0.35 * share * times + 0.01), (view, sides, colour)


def test_without_the_square_the_encoder_would_see_no_quadrant_whole() -> None:
    """The fault that the square is there for: the centre of a 2:1 strip is half of a and half of a'."""
    strip = np.asarray(Image.new("RGB", (64, 32), COLOURS[0])).copy()
    strip[:, :16] = COLOURS[2]
    bare = shown_to_clip(Image.fromarray(strip))
    assert not (np.abs(bare - COLOURS[2]).max(-1) < 60).any()
    assert (np.abs(shown_to_clip(squared(Image.fromarray(strip))) - COLOURS[2]).max(-1) < 60).mean() > 0.08


def shown_to_clip(image: Image.Image) -> np.ndarray:
    """[32, 32, 3], 0..255: what a real CLIP image processor makes of an image, its normalisation undone."""
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = np.asarray(processor(images=[image], return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    return (pixels * processor.image_std + processor.image_mean) * 255


def test_every_view_that_a_mode_names_exists() -> None:
    assert {view for mode in MODES.values() for view in mode.views} == set(VIEWS)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_a_query_has_the_modes_width_and_follows_its_own_b(mode: str) -> None:
    rule, encoder = CanvasRule(Size(16, 32)), PatchPixelEncoder()
    exemplar = Exemplar.of(A, A2, rule)
    together = query_of(encoder, mode, Canvas.of(exemplar, [B, drawn_image(7, 32, 16)], rule))
    assert together.shape == (2, query_dim(mode, 3 if "paa'" in mode else 12))
    alone = query_of(encoder, mode, Canvas.of(exemplar, [B], rule))
    assert torch.equal(together[:1], alone)
    sees_b = any(view not in ("a", "a2", "top") for view in MODES[mode].views)
    assert torch.equal(together[0], together[1]) != sees_b


def test_the_papers_mode_is_a_then_a2_then_b() -> None:
    rule, encoder = CanvasRule(Size(16, 32)), PixelEncoder()
    query = query_of(encoder, "cat-aa'b", Canvas.of(Exemplar.of(A, A2, rule), [B], rule))
    assert torch.equal(query[0], torch.cat([*encoder([A]), *encoder([A2]), *encoder([B])]))


def test_an_encoder_with_damaged_weights_is_named() -> None:
    class Damaged(PixelEncoder):
        def __call__(self, images: list[Image.Image]) -> torch.Tensor:
            return super().__call__(images) * float("nan")

    rule = CanvasRule(Size(16, 32))
    canvas = Canvas.of(Exemplar.of(A, A2, rule), [B], rule)
    with pytest.raises(ValueError, match="encoder pixels-2x2 gave values that are not finite for view 'a'"):
        query_of(Damaged(), "cat-aa'b", canvas)
