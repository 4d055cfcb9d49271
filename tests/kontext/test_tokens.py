"""Tokens and positions against an independent reading in numpy."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.kontext.grid import Size
from lorweb.kontext.tokens import pack, positions, unpack

HALVES = st.integers(1, 5)


@settings(deadline=None)
@given(rows=HALVES, columns=HALVES, batch=st.integers(1, 2))
def test_a_token_holds_one_2x2_cell_of_every_channel(rows: int, columns: int, batch: int) -> None:
    C = 16
    z = torch.arange(batch * C * 4 * rows * columns, dtype=torch.float32).reshape(batch, C, 2 * rows, 2 * columns)
    tokens, cells = pack(z).numpy(), z.numpy()
    assert tokens.shape == (batch, rows * columns, 4 * C)
    for row in range(rows):
        for column in range(columns):
            block = cells[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            np.testing.assert_array_equal(tokens[:, row * columns + column], block.reshape(batch, -1))
    assert torch.equal(unpack(pack(z), Size(2 * rows, 2 * columns)), z)


def test_a_view_that_is_not_contiguous_packs_all_the_same() -> None:
    z = torch.randn(2, 4, 6, 16).permute(0, 3, 1, 2)
    assert torch.equal(pack(z), pack(z.contiguous()))


@settings(deadline=None)
@given(rows=HALVES, columns=HALVES, text=st.integers(1, 7))
def test_control_positions_differ_from_noisy_ones_in_the_first_coordinate_alone(
    rows: int, columns: int, text: int
) -> None:
    found = positions(Size(2 * rows, 2 * columns), text, torch.zeros(1))
    expected = [(t, row, column) for t in (0, 1) for row in range(rows) for column in range(columns)]
    np.testing.assert_array_equal(found.image_2L3.numpy(), np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(found.text_T3.numpy(), np.zeros((text, 3)))
