"""Sizes, crops and the way back, for images that fit nothing."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar, batches
from lorweb.kontext.codec import decode_latents, encode_image
from lorweb.kontext.grid import Size, control_grid, quadrant_of
from lorweb.kontext.load import Base
from tests.kontext_tiny import drawn_image

RULE = CanvasRule(Size(32, 48))


def canvas(rule: CanvasRule, *queries: Image.Image) -> Canvas:
    exemplar = Exemplar.of(drawn_image(0, 90, 60), drawn_image(1, 45, 30), rule)
    return Canvas.of(exemplar, list(queries), rule)


def test_what_a_rule_does_unless_told_otherwise() -> None:
    assert CanvasRule(Size(32, 48)) == CanvasRule(Size(32, 48), "crop", "fixed", 0.05, "quadrant")


def test_every_quadrant_has_the_rules_size_and_b_keeps_all_of_itself() -> None:
    found = canvas(RULE, drawn_image(2, 100, 20), drawn_image(3, 10, 70))
    assert {image.size for image in (found.a, found.a2, *found.b)} == {(48, 32)}
    for where, size in zip(found.placements, (Size(20, 100), Size(70, 10)), strict=True):
        assert where.original == size
        assert where.source.corners == (0, 0, size.width, size.height)


def test_stretch_fills_the_quadrant_with_all_of_b() -> None:
    found = canvas(CanvasRule(Size(32, 48), fit="stretch"), drawn_image(2, 100, 20))
    assert found.placements[0].target.corners == (0, 0, 48, 32)


def test_the_quadrant_may_follow_b() -> None:
    rule = CanvasRule(Size(64, 64), shape="from_b")
    assert rule.quadrant_for(Size(30, 60)) == Size(48, 96)
    assert rule.quadrant_for(Size(60, 30)) == Size(96, 48)
    found = canvas(rule, drawn_image(0, 60, 30))
    assert {found.a.size, found.a2.size, found.b[0].size} == {(96, 48)}


def test_quadrants_encoded_apart_are_the_control_grid(frozen_base: Base) -> None:
    found = canvas(RULE, drawn_image(2, 48, 32), drawn_image(3, 48, 32))
    z = found.encode(frozen_base, RULE)
    assert z.shape == (2, 16, 8, 12)
    for row, b in enumerate(found.b):
        expected = encode_image(frozen_base, [found.a, found.a2, b, b])
        parts = [z[row, :, i : i + 4, j : j + 6] for i in (0, 4) for j in (0, 6)]
        torch.testing.assert_close(torch.stack(parts), expected, atol=1e-5, rtol=1e-4)


def test_the_grid_may_be_encoded_and_decoded_whole(frozen_base: Base) -> None:
    rule = CanvasRule(Size(32, 48), latents="grid")
    found = canvas(rule, drawn_image(2, 24, 16))
    z = found.encode(frozen_base, rule)
    assert torch.equal(z, encode_image(frozen_base, [control_grid(found.a, found.a2, found.b[0])]))
    assert not torch.allclose(z, found.encode(frozen_base, RULE), atol=1e-3), "a real VAE sees across the seams"
    whole = quadrant_of(decode_latents(frozen_base, z)[0], 1, 1).resize((24, 16), Image.Resampling.LANCZOS)
    assert found.decode(frozen_base, z, rule)[0].tobytes() == whole.tobytes()


def test_decoding_shows_the_bottom_right_at_bs_own_size(frozen_base: Base) -> None:
    found = canvas(RULE, drawn_image(2, 100, 20))
    z = torch.randn(1, 16, 8, 12)
    image = found.decode(frozen_base, z, RULE)[0]
    assert image.size == (100, 20)
    elsewhere = z.clone()
    elsewhere[:, :, :4] = 0
    elsewhere[:, :, :, :6] = 0
    assert found.decode(frozen_base, elsewhere, RULE)[0].tobytes() == image.tobytes()
    assert np.asarray(image).std() > 0


def test_a_and_a2_of_two_aspects_are_refused_unless_stretching_is_asked_for() -> None:
    a, a2 = drawn_image(0, 60, 30), drawn_image(1, 30, 60)
    with pytest.raises(ValueError, match="their aspects differ"):
        Exemplar.of(a, a2, RULE)
    with pytest.raises(ValueError, match="their aspects differ"):
        Exemplar.of(a, a2, CanvasRule(Size(32, 32), fit="pad"))
    assert Exemplar.of(a, a2, CanvasRule(Size(32, 32), fit="stretch")).a2.size == (30, 60)


@settings(deadline=None)
@given(wide=st.lists(st.booleans(), min_size=1, max_size=9), most=st.integers(1, 4))
def test_batches_are_runs_of_one_quadrant_cut_at_most(wide: list[bool], most: int) -> None:
    """Each image says its place by its colour; groupby and slices are the oracle."""
    queries = [Image.new("RGB", (8, 4) if is_wide else (4, 4), (i, 0, 0)) for i, is_wide in enumerate(wide)]
    found = list(batches(iter(queries), CanvasRule(Size(32, 32), shape="from_b"), most))
    runs = [[i for i, _ in run] for _, run in itertools.groupby(enumerate(wide), key=lambda pair: pair[1])]
    expected = [run[i : i + most] for run in runs for i in range(0, len(run), most)]
    assert [[image.getpixel((0, 0))[0] for image in batch] for _, batch in found] == expected
    assert [first for first, _ in found] == [batch[0] for batch in expected]


def test_a_query_that_cannot_be_used_is_named_by_its_place_among_all() -> None:
    queries = [drawn_image(0), drawn_image(1), drawn_image(2), Image.new("RGB", (1, 4000))]
    for most in (2, 8):
        with pytest.raises(ValueError, match=r"b\[3\] has 1x4000 px"):
            list(batches(queries, RULE, most))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quadrant": Size(40, 32)}, "quadrant is 40x32 px; both sides must be multiples of 16"),
        ({"quadrant": Size(32, 40)}, "quadrant is 32x40 px; both sides must be multiples of 16"),
        ({"fit": "squash"}, "fit is 'squash'; use one of crop, pad, stretch"),
        ({"shape": "round"}, "shape is 'round'"),
        ({"latents": "both"}, "latents is 'both'"),
    ],
)
def test_a_rule_that_is_none_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CanvasRule(**({"quadrant": Size(32, 32)} | change))  # type: ignore[arg-type]
