"""Health figures on bases whose illness is known, and the Gram matrix against dense products."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

from lorweb.basis import analogy, basis_layers, mix, router_of
from lorweb.basis.health import atom_gram, health
from lorweb.basis.mix_health import mix_health
from tests.basis.cases import config, queries, trained, two_linears

SETTINGS = config(targets=("*",))
model = two_linears


def test_the_gram_matrix_is_that_of_the_dense_atoms() -> None:
    for layer in basis_layers(model()).values():
        r = SETTINGS.rank
        atoms = [layer.B[:, i : i + r] @ layer.A[i : i + r] for i in range(0, SETTINGS.total_rank, r)]
        expected = torch.tensor([[float((x * y).sum().detach()) for y in atoms] for x in atoms])
        torch.testing.assert_close(atom_gram(layer).float(), expected, rtol=1e-4, atol=1e-6)


def test_norms_are_those_of_the_applied_update() -> None:
    made, query_BQ = model(), queries(5, SETTINGS)
    report = health(made, query_BQ)
    norms = []
    with torch.no_grad():
        for row in query_BQ:
            with analogy(made, row):
                layer = made[0]
                norms.append(float((layer(torch.eye(10)) - layer.base(torch.eye(10))).norm()))
    assert report.layers["0"].update_norm == pytest.approx(sum(norms) / 5, rel=1e-4)
    assert report.update_norm == pytest.approx(
        math.hypot(report.layers["0"].update_norm, report.layers["1"].update_norm), rel=1e-6
    )
    assert report.atoms == 8 and report.queries == 5


def test_a_healthy_basis_raises_no_alarm() -> None:
    report = health(model(), queries(50, SETTINGS))
    assert report.dead_atoms == report.duplicate_pairs == 0
    assert 0.3 < report.entropy < 1.0 and report.variation > 0.05


def test_a_constant_router_has_no_variation_and_full_entropy() -> None:
    made = model()
    router_of(made).keys.data.zero_()
    report = health(made, queries(20, SETTINGS))
    assert report.entropy == pytest.approx(1.0) and report.variation == pytest.approx(0.0, abs=1e-6)


def test_a_collapsed_router_has_no_entropy_and_dead_atoms() -> None:
    made = model()
    router = router_of(made)
    assert router.projection is not None
    router.keys.data.zero_()
    router.keys.data[:, 2] = 1000.0
    router.projection.data.fill_(1.0)
    report = health(made, queries(20, SETTINGS).abs())
    assert report.entropy == pytest.approx(0.0, abs=1e-6)
    assert {row.dead for row in report.layers.values()} == {(0, 1, 3)}


def test_duplicates_and_silent_atoms_are_named() -> None:
    made = model()
    layer = basis_layers(made)["1"]
    layer.A.data[4:6], layer.B.data[:, 4:6] = layer.A.data[0:2], -2 * layer.B.data[:, 0:2]
    layer.B.data[:, 2:4] = 0
    report = health(made, queries(20, SETTINGS))
    assert report.layers["1"].duplicates == ((0, 2),) and report.layers["1"].dead == (1,)
    assert report.layers["0"].duplicates == () and report.duplicate_pairs == report.dead_atoms == 1


def test_tanh_coefficients_count_by_size() -> None:
    made = nn.Sequential(nn.Linear(10, 6))
    settings = config(targets=("*",), activation="tanh")
    trained(made, settings)
    assert bool((mix(made, queries(9, settings)) < 0).any())
    assert 0 < health(made, queries(9, settings)).entropy <= 1


def test_json_holds_everything_and_the_summary_only_numbers() -> None:
    report = health(model(), queries(5, SETTINGS))
    tree = json.loads(report.to_json())
    assert report.to_json() == json.dumps(tree, sort_keys=True)
    assert set(tree["layers"]) == {"0", "1"} and tree["entropy"] == report.entropy
    assert report.to_json() == health(model(), queries(5, SETTINGS)).to_json()
    assert report.summary()["queries"] == 5.0 and "layers" not in report.summary()


def test_queries_that_are_not_finite_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        query_BQ = queries(5, SETTINGS)
        query_BQ[3, 2] = bad
        with pytest.raises(ValueError, match="the queries hold values that are not finite"):
            health(model(), query_BQ)


def test_an_untrained_basis_is_dead_and_has_numbers_all_the_same() -> None:
    made = model()
    for layer in basis_layers(made).values():
        layer.B.data.zero_()
    report = health(made, queries(5, SETTINGS))
    assert report.dead_atoms == report.atoms == 8 and report.duplicate_pairs == 0
    assert report.update_rank == report.basis_rank == report.update_norm == report.update_variation == 0.0
    assert report.layers["0"].use == (0.0,) * 4
    assert all(math.isfinite(value) for value in report.summary().values())


def test_coefficients_that_only_change_sign_are_no_constant_router() -> None:
    made = model(activation="tanh")
    query_BQ = queries(4, SETTINGS)
    report = health(made, torch.cat([query_BQ, -query_BQ]))  # e is odd in the query: its mean is zero
    assert report.variation == pytest.approx(0.5) and report.update_variation == pytest.approx(1.0)


def test_the_mix_in_three_numbers_as_numpy_has_them() -> None:
    e_BLN = mix(model(), queries(12, SETTINGS)).detach()
    e = np.abs(e_BLN.double().numpy())
    share = e / e.sum(-1, keepdims=True)
    found = mix_health(e_BLN)
    assert found.effective_loras == pytest.approx(np.exp(-(share * np.log(share)).sum(-1).mean()))
    assert found.mix_spread == pytest.approx(e_BLN.double().numpy().std(0).mean())
    assert found.unused_loras == pytest.approx((share.max(0) < 0.1 / 4).mean())
    report = health(model(), queries(12, SETTINGS))
    assert all(getattr(report, field.name) == getattr(found, field.name) for field in fields(found))


def test_the_worst_layers_are_the_broken_ones_then_the_static_ones() -> None:
    made = model()
    assert health(made, queries(20, SETTINGS)).worst(1) == ["1"], "the fault below has to make the difference"
    basis_layers(made)["0"].B.data[:, 2:4] = 0
    report = health(made, queries(20, SETTINGS))
    assert report.worst(1) == ["0"] and report.worst(5) == ["0", "1"]


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    made = model()
    basis_layers(made)["1"].A.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="basis of 1 holds values that are not finite"):
        health(made, queries(5, SETTINGS))
