"""What the encoder looks at, view by view, and the query it makes of that."""

import numpy as np
import pytest
import torch

from lorweb.basis.query import MODES, query_dim
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.grid import Size
from lorweb.kontext.query import VIEWS, query_of, view_image
from tests.kontext_tiny import PatchPixelEncoder, PixelEncoder, drawn_image

A, A2, B = (drawn_image(i, 32, 16) for i in range(3))


def test_views_are_parts_of_the_control_grid() -> None:
    grid = np.asarray(view_image("grid", A, A2, B))
    assert grid.shape == (32, 64, 3)
    for view, image in (("a", A), ("a2", A2), ("b", B)):
        assert view_image(view, A, A2, B).tobytes() == image.tobytes()  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(view_image("top", A, A2, B)), grid[:16])
    blank = np.asarray(view_image("grid_blank", A, A2, B))
    np.testing.assert_array_equal(blank[:16], grid[:16])
    np.testing.assert_array_equal(blank[16:, :32], grid[16:, :32])
    assert (blank[16:, 32:] == 0).all()


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
