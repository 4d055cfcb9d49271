"""Large parameters in pieces: shares come out even, and state is cut and put together without loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lorweb.training.pieces import GRAIN, cut, merged, whole_pieces
from lorweb.training.sharding import owners


def parameters(sizes):
    return {f"p{i}": nn.Parameter(torch.arange(float(rows * width)).view(rows, width)) for i, (rows, width) in sizes}


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([1, 96, 256, 1000, 4096])), min_size=1, max_size=6),
    st.integers(2, 9),
)
def test_pieces_cover_every_parameter_once_and_end_where_blocks_end(sizes, workers):
    given_ = parameters(enumerate(sizes))
    pieces = cut(given_, workers)
    for name, parameter in given_.items():
        own = [piece for piece in pieces if piece.of == name]
        assert [piece.start for piece in own] == [0, *(piece.stop for piece in own[:-1])]
        assert own[-1].stop == len(parameter)
        assert torch.equal(torch.cat([piece.values for piece in own]), parameter)
        assert len(own) == 1 or all(piece.values.numel() % GRAIN == 0 for piece in own)
        assert len(own) > 1 or own[0].values is parameter
    assert len({piece.name for piece in pieces}) == len(pieces)


@given(st.integers(4, 40), st.integers(2, 5))
def test_state_that_is_cut_and_put_together_is_what_it_was(layers, workers):
    """Moments by row, scales by block, counters and tables for all: those of torchao and of bitsandbytes."""
    given_ = parameters([(0, (layers, 4096)), (1, (7, 5))])
    rows, blocks = torch.randn(layers, 4096), torch.randn(layers * 16)
    whole = {
        "exp_avg": rows,
        "exp_avg_sq:codes": rows + 1,
        "exp_avg_sq:scale": blocks,
        "state1": rows + 2,
        "absmax1": blocks + 1,
        "qmap1": torch.randn(256),
        "step": torch.tensor(3.0),
    }
    pieces = cut(given_, workers)
    assert len(pieces) > 2
    kept = {
        f"optimizer/{piece.name}/{slot}": piece.taken(slot, value)
        for piece in pieces
        if piece.of == "p0"
        for slot, value in whole.items()
    }
    together = merged(kept, pieces)
    assert together.keys() == {f"optimizer/p0/{slot}" for slot in whole}
    assert all(torch.equal(together[f"optimizer/p0/{slot}"], value) for slot, value in whole.items())


@pytest.mark.parametrize("workers", [2, 3, 8, 16])
def test_shares_of_a_basis_of_the_papers_shape_are_even(workers):
    """One stack of projections beside many small factors, at a hundredth of the size."""
    shapes = {"projection": (494, 4096), "keys": (494, 32), **{f"A{i}": (8, 3072) for i in range(280)}}
    given_ = {name: nn.Parameter(torch.empty(shape, device="meta")) for name, shape in shapes.items()}
    pieces = cut(given_, workers)
    loads = [0] * workers
    for piece, owner in zip(pieces, owners(pieces, workers), strict=True):
        loads[owner] += piece.values.numel()
    assert max(loads) < 1.02 * sum(loads) / workers
    assert max(p.numel() for p in given_.values()) > 0.22 * sum(loads), "otherwise nothing had to be cut"


def test_more_workers_than_tensors_are_refused():
    with pytest.raises(ValueError, match="3 workers cannot share the state of 2 tensors"):
        owners(whole_pieces(parameters([(0, (2, 2)), (1, (2, 2))])), 3)
