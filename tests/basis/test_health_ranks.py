"""Ranks, use and moving part of an update against numpy on dense matrices; ranges and invariances by hypothesis."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.basis import basis_layers, mix
from lorweb.basis.health import RANK_QUERIES, effective_rank, health, update_ranks
from tests.basis.cases import config, queries, two_linears

SETTINGS = config(targets=("*",))


def dense_atoms(layer) -> list[np.ndarray]:
    """B_n A_n as float64 matrices, one by one."""
    A, B, r = layer.A.detach().double().numpy(), layer.B.detach().double().numpy(), layer.rank
    return [B[:, i : i + r] @ A[i : i + r] for i in range(0, len(A), r)]


def rank_of(matrix: np.ndarray) -> float:
    """exp of the entropy of the singular values over their sum."""
    sigma = np.linalg.svd(matrix, compute_uv=False)
    share = sigma[sigma > 0] / sigma.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize("changes", [{}, {"activation": "tanh"}, {"n_loras": 2, "heads": 2}, {"n_loras": 1, "rank": 1}])
def test_ranks_and_moving_part_are_those_of_the_dense_updates(changes) -> None:
    """K = 8, 4 and 1 against layers of 10 -> 6 and 6 -> 7: more and fewer components than rows and columns."""
    made, query_BQ = two_linears(**changes), queries(9, SETTINGS)
    report, e_BLN = health(made, query_BQ), mix(made, query_BQ).detach().double().numpy()
    for index, (name, layer) in enumerate(basis_layers(made).items()):
        atoms, row = dense_atoms(layer), report.layers[name]
        updates = [sum(e * atom for e, atom in zip(e_N, atoms, strict=True)) for e_N in e_BLN[:, index]]
        ranks = [rank_of(update) for update in updates]
        np.testing.assert_allclose(update_ranks(layer, torch.tensor(e_BLN[:, index])).numpy(), ranks, rtol=1e-9)
        assert row.update_rank == pytest.approx(np.mean(ranks), rel=1e-9)
        assert row.basis_rank == pytest.approx(rank_of(np.stack([atom.ravel() for atom in atoms])), rel=1e-6)
        moving = [np.square(update - np.mean(updates, axis=0)).sum() for update in updates]
        expected = np.mean(moving) / np.mean([np.square(update).sum() for update in updates])
        assert row.update_variation == pytest.approx(expected, rel=1e-6, abs=1e-12)
        use = np.abs(e_BLN[:, index]).mean(0) * [np.linalg.norm(atom) for atom in atoms]
        assert row.use == pytest.approx(use / use.sum())


@pytest.mark.parametrize("activation", ["softmax", "tanh"])
def test_entropy_and_variation_are_those_of_each_querys_coefficients(activation: str) -> None:
    made, query_BQ = two_linears(activation=activation), 4 * queries(9, SETTINGS)
    report, e_BLN = health(made, query_BQ), mix(made, query_BQ).detach().double().numpy()
    for index, row in enumerate(report.layers.values()):
        e_BN = e_BLN[:, index]
        entropies = []
        for e_N in np.abs(e_BN):
            share = e_N / e_N.sum()
            entropies.append(-(share * np.log(share)).sum() / np.log(4))
        assert row.entropy == pytest.approx(np.mean(entropies), rel=1e-6)
        away = np.abs(e_BN - e_BN.mean(0)).sum() / len(e_BN)
        assert row.variation == pytest.approx(away / (2 * np.abs(e_BN).sum(1).mean()), rel=1e-6)
        assert np.ptp(entropies) > 0.1 and row.variation > 0.1, "too even to tell a mean from another"
    for name in ("entropy", "variation"):
        assert getattr(report, name) == pytest.approx(np.mean([getattr(row, name) for row in report.layers.values()]))


def test_of_many_queries_the_rank_is_that_of_an_even_selection() -> None:
    made, query_BQ = two_linears(), queries(4 * RANK_QUERIES - 1, SETTINGS)
    report, e_BLN = health(made, query_BQ), mix(made, query_BQ)
    for index, (name, layer) in enumerate(basis_layers(made).items()):
        ranks = update_ranks(layer, e_BLN[:, index].detach())
        assert report.layers[name].update_rank == pytest.approx(float(ranks[::4].mean()), rel=1e-9)
        assert report.layers[name].update_rank == pytest.approx(float(ranks.mean()), rel=0.05)


def test_effective_ranks_of_spectra_that_are_known() -> None:
    spectra = torch.tensor([[3.0, 3.0, 3.0, 3.0], [5.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]])
    assert effective_rank(spectra.double()).tolist() == pytest.approx([4.0, 1.0, 0.0, 2.0])


def test_one_lora_is_alive_static_and_of_one_component() -> None:
    row = health(two_linears(n_loras=1, rank=1), queries(5, SETTINGS)).layers["0"]
    assert (row.dead, row.duplicates, row.use) == ((), (), (1.0,))
    assert (row.entropy, row.variation) == (0.0, 0.0)
    assert row.update_variation == pytest.approx(0.0, abs=1e-12)
    assert row.update_rank == pytest.approx(1.0) and row.basis_rank == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_loras=st.integers(1, 6),
    rank=st.integers(1, 4),
    activation=st.sampled_from(["softmax", "tanh"]),
    scale=st.floats(1e-3, 1e3),
)
def test_all_numbers_stay_in_their_ranges_and_ignore_the_scale_of_b(seed, n_loras, rank, activation, scale) -> None:
    made = two_linears(seed, n_loras=n_loras, rank=rank, activation=activation)
    query_BQ = queries(6, SETTINGS, seed)
    before = health(made, query_BQ)
    for row in before.layers.values():
        assert 0 <= row.entropy <= 1 + 1e-9 and 0 <= row.variation <= 1 and -1e-9 <= row.update_variation <= 1 + 1e-9
        assert 1 - 1e-9 <= row.update_rank <= min(n_loras * rank, 6) + 1e-9
        assert 1 - 1e-9 <= row.basis_rank <= n_loras + 1e-9
        assert sum(row.use) == pytest.approx(1.0)
    for layer in basis_layers(made).values():
        layer.B.data.mul_(scale)
    after = health(made, query_BQ)
    assert after.update_norm == pytest.approx(before.update_norm * scale, rel=1e-4)
    for name in ("entropy", "variation", "update_variation", "update_rank", "basis_rank", "dead_atoms"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-3, abs=1e-6), name
