"""Sizes, crops and the way back, for images that fit nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.codec import decode_latents, encode_image
from lorweb.kontext.grid import Size, control_grid, quadrant_of
from lorweb.kontext.load import Base
from tests.kontext_tiny import drawn_image

RULE = CanvasRule(Size(32, 48))


def canvas(rule: CanvasRule, *queries: Image.Image) -> Canvas:
    exemplar = Exemplar.of(drawn_image(0, 90, 60), drawn_image(1, 45, 30), rule)
    return Canvas.of(exemplar, list(queries), rule)


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
    assert Exemplar.of(a, a2, CanvasRule(Size(32, 32), fit="stretch")).a2.size == (30, 60)


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
