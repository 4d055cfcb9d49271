"""Where a number of health turns: atoms and coefficients just on either side of every limit, counted by hand.

Legend: B queries, L layers, N atoms per layer.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lorweb.basis import basis_layers, router_of
from lorweb.basis.health import health
from lorweb.basis.mix_health import mix_health
from tests.basis.cases import config, queries, trained, two_linears

SETTINGS = config(targets=("*",))
RANK_ONE = config(targets=("*",), n_loras=4, rank=1)


def atoms_of(*pairs: tuple[list[float], list[float]]) -> nn.Sequential:
    """One linear (4 -> 4) whose router gives every atom a quarter, and whose atoms are b a^T for the pairs (b, a)."""
    made = nn.Sequential(nn.Linear(4, 4))
    trained(made, RANK_ONE)
    router_of(made).keys.data.zero_()
    layer = basis_layers(made)["0"]
    for n, (b, a) in enumerate(pairs):
        layer.B.data[:, n], layer.A.data[n] = torch.tensor(b), torch.tensor(a)
    return made


def axis(i: int, length: float = 1.0) -> list[float]:
    return [length if i == j else 0.0 for j in range(4)]


def row_of(made: nn.Sequential, **limits: float) -> Any:
    return health(made, queries(3, RANK_ONE), **limits).layers["0"]


def test_a_lora_is_unused_below_a_tenth_of_an_even_share_in_every_query() -> None:
    """A tenth of a quarter is 0.025: the second and third exceed it in one query each, the last in none."""
    shares = torch.tensor([[0.90, 0.05, 0.03, 0.02], [0.97, 0.00, 0.01, 0.02]])
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    e_BLN = torch.stack([shares, 10 * signs * shares, torch.full((2, 4), 0.25)], dim=1)
    assert mix_health(e_BLN).unused_loras == pytest.approx(2 / 12)
    assert mix_health(e_BLN[:, :1]).unused_loras == pytest.approx(1 / 4)
    assert mix_health(e_BLN[:, 2:]).unused_loras == 0.0


@pytest.mark.parametrize(("use", "dead"), [(0.0024, (3,)), (0.0026, ())])
def test_an_atom_is_dead_up_to_a_hundredth_of_an_even_share(use: float, dead: tuple[int, ...]) -> None:
    made = atoms_of(*((axis(i), axis(i)) for i in range(3)), (axis(3), axis(3, 3 * use / (1 - use))))
    row = row_of(made)
    assert row.use[3] == pytest.approx(use, rel=1e-5) and row.dead == dead
    assert row_of(made, dead_share=4 * 0.3).dead == (3,), "the others have a third each"
    assert row_of(made, dead_share=4 * 0.34).dead == (0, 1, 2, 3)


def test_without_a_limit_only_silent_atoms_are_dead() -> None:
    made = atoms_of(*((axis(i), axis(i)) for i in range(3)), (axis(3, 0.0), axis(3)))
    assert row_of(made, dead_share=0.0).dead == (3,)


@pytest.mark.parametrize(("cosine", "found"), [(0.979, ()), (0.981, ((0, 1),)), (-0.981, ((0, 1),))])
def test_atoms_are_duplicates_from_a_cosine_of_0_98(cosine: float, found: tuple[tuple[int, int], ...]) -> None:
    turned = [cosine, math.sqrt(1 - cosine**2), 0.0, 0.0]
    made = atoms_of((axis(0), axis(0)), (axis(0, 5.0), turned), (axis(2), axis(2)), (axis(3), axis(3)))
    assert row_of(made).duplicates == found
    assert row_of(made, duplicate_cosine=0.97).duplicates == ((0, 1),)


def test_only_copies_reach_a_cosine_of_one() -> None:
    made = atoms_of((axis(0), axis(0)), (axis(0), axis(1)), (axis(0, 2.0), axis(0)), (axis(3), axis(3)))
    assert row_of(made, duplicate_cosine=1.0).duplicates == ((0, 2),)


def test_norms_of_atoms_and_keys_are_those_of_each_layer() -> None:
    made = two_linears()
    router_of(made).keys.data[1] *= 3
    report, keys_LND = health(made, queries(5, SETTINGS)), router_of(made).keys.detach().numpy()
    assert len(report.layers) == 2
    for index, (name, layer) in enumerate(basis_layers(made).items()):
        A, B, r = layer.A.detach().numpy(), layer.B.detach().numpy(), layer.rank
        norms = [np.linalg.norm(B[:, i : i + r] @ A[i : i + r]) for i in range(0, len(A), r)]
        assert report.layers[name].largest_atom == pytest.approx(max(norms), rel=1e-5)
        lengths = [np.linalg.norm(key) for key in keys_LND[index]]
        assert report.layers[name].key_norm == pytest.approx(np.mean(lengths), rel=1e-5)
        assert max(lengths) > 1.2 * min(lengths) and max(norms) > 1.1 * min(norms)


def test_layers_with_doubled_atoms_are_looked_at_before_static_ones() -> None:
    made = two_linears()
    router_of(made).keys.data[1] = 0
    assert health(made, queries(20, SETTINGS)).worst(2) == ["1", "0"], "the fault below has to make the difference"
    layer = basis_layers(made)["0"]
    layer.A.data[4:6], layer.B.data[:, 4:6] = layer.A.data[0:2], layer.B.data[:, 0:2]
    report = health(made, queries(20, SETTINGS))
    assert report.layers["0"].dead == () and report.layers["0"].duplicates == ((0, 2),)
    assert report.layers["1"].update_variation < 1e-9 < report.layers["0"].update_variation
    assert report.worst(2) == ["0", "1"]


@pytest.mark.parametrize("part", ["A", "B", "keys"])
def test_a_diverged_layer_is_named_whatever_diverged(part: str) -> None:
    made = two_linears()
    values = router_of(made).keys[1] if part == "keys" else getattr(basis_layers(made)["1"], part)
    values.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="basis of 1 holds values that are not finite"):
        health(made, queries(5, SETTINGS))
