"""One layer against the equations in numpy, in two and three dimensions and in every option of the router."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lorweb.basis import add_basis, analogy, basis_layers, mix, router_of
from tests.basis.cases import config, queries, trained
from tests.basis.oracle import coefficients, update

OPTIONS = list(itertools.product(["softmax", "tanh"], ["mean", "sum"], [1, 2, 4], ["linear", "shared", "none"]))


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 6), nn.Linear(6, 7, bias=False))


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float(((found.float() - exact).norm() / exact.norm()).detach())


@pytest.mark.parametrize(("activation", "reduce", "heads", "projection"), OPTIONS)
def test_matches_the_equations(activation: str, reduce: str, heads: int, projection: str) -> None:
    query_dim = 8 if projection == "none" else 12
    settings = config(
        activation=activation, reduce=reduce, heads=heads, projection=projection, query_dim=query_dim, targets=("*",)
    )
    model, query_BQ, r = two_layers(), queries(3, settings) * 2, settings.rank
    base = [layer.weight.detach().double().numpy() for layer in model]
    trained(model, settings)
    router, layers = router_of(model), list(basis_layers(model).values())
    assert len(layers) == 2
    e_BLN = mix(model, query_BQ).detach().numpy()
    x = torch.randn(3, 5, 10)
    with analogy(model, query_BQ):
        y = [layers[0](x), layers[0](x[:, 0]), layers[1](layers[0](x))]
    for b, (index, layer) in itertools.product(range(3), enumerate(layers)):
        P = {"none": None, "shared": 0, "linear": index}[projection]
        P = None if P is None else router.projection[P].detach().double().numpy()
        keys = list(router.keys[index].detach().double().numpy())
        e = coefficients(query_BQ[b].double().numpy(), P, keys, heads, activation, reduce)
        np.testing.assert_allclose(e_BLN[b, index], e, rtol=1e-5, atol=1e-6)
        A, B = layer.A.detach().double().numpy(), layer.B.detach().double().numpy()
        parts = [slice(i * r, (i + 1) * r) for i in range(settings.n_loras)]
        W = base[index] + update(e, [A[p] for p in parts], [B[:, p] for p in parts])
        bias = 0.0 if layer.bias is None else layer.bias.detach().double().numpy()
        if index == 0:
            expected = x[b].double().numpy() @ W.T + bias
            np.testing.assert_allclose(y[0][b].detach().numpy(), expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(y[1][b].detach().numpy(), expected[0], rtol=1e-4, atol=1e-5)
        else:
            before = y[0][b].detach().double().numpy()
            np.testing.assert_allclose(y[2][b].detach().numpy(), before @ W.T + bias, rtol=1e-4, atol=1e-5)


def test_the_sum_over_heads_is_clamped() -> None:
    settings = config(heads=4, reduce="sum", activation="tanh", targets=("*",))
    model = two_layers()
    add_basis(model, settings, seed=0)
    e_BLN = mix(model, queries(4, settings) * 100).detach()
    assert float(e_BLN.max()) == 1.0 and float(e_BLN.min()) == -1.0


def test_softmax_coefficients_of_a_layer_sum_to_one() -> None:
    settings = config(heads=2, targets=("*",))
    model = two_layers()
    add_basis(model, settings, seed=0)
    torch.testing.assert_close(mix(model, queries(4, settings)).sum(-1), torch.ones(4, 2))


def test_initial_values_follow_the_paper() -> None:
    settings = config(n_loras=32, rank=4, key_dim=64, query_dim=100, targets=("*",))
    model = nn.Sequential(nn.Linear(200, 50))
    add_basis(model, settings, seed=0)
    (layer,), router = basis_layers(model).values(), router_of(model)
    bound = 1 / (200 * 4) ** 0.5  # fan-in of the [N, in, r] tensor is in * r
    assert 0.98 * bound < float(layer.A.detach().abs().max()) <= bound
    assert abs(float(layer.A.detach().std()) - bound / 3**0.5) < 0.02 * bound
    assert not layer.B.any()
    assert abs(float(router.keys.detach().std()) - 1) < 0.05 and abs(float(router.keys.detach().mean())) < 0.05
    assert router.projection is not None
    assert 0.98 * 0.1 < float(router.projection.detach().abs().max()) <= 0.1


def test_float32_coefficients_survive_a_bfloat16_basis() -> None:
    settings = config(targets=("*",))
    model, query_BQ = two_layers(), queries(2, settings)
    trained(model, settings)
    x = torch.randn(2, 5, 10)
    with analogy(model, query_BQ):
        exact = model[0](x)
    model.to(torch.bfloat16)
    assert mix(model, query_BQ).dtype == torch.float32
    with analogy(model, query_BQ):
        rounded = model[0](x.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert relative(rounded, exact) < 0.01


def test_a_float32_basis_on_a_bfloat16_base_keeps_the_base_dtype() -> None:
    settings = config(targets=("*",))
    model = two_layers().to(torch.bfloat16)
    trained(model, settings)
    assert model[0].A.dtype == torch.float32 and model[0].weight.dtype == torch.bfloat16
    x = torch.randn(2, 5, 10, dtype=torch.bfloat16)
    with analogy(model, queries(2, settings)):
        assert model[0](x).dtype == torch.bfloat16


def test_autocast_runs_the_gemms_low_and_the_router_high() -> None:
    settings = config(targets=("*",))
    model, query_BQ = two_layers(), queries(2, settings)
    trained(model, settings)
    x = torch.randn(2, 5, 10)
    exact_e = mix(model, query_BQ)
    with analogy(model, query_BQ):
        exact = model[0](x)
    with torch.autocast("cpu", torch.bfloat16), analogy(model, query_BQ) as e_BLN:
        low = model[0](x)
    assert torch.equal(e_BLN, exact_e) and low.dtype == torch.bfloat16
    assert 0 < relative(low, exact) < 0.01


def test_any_module_with_features_can_be_a_base() -> None:
    class Ternary(nn.Module):
        """A linear of another library: int8 buffers, no parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = 5, 3
            self.register_buffer("weight", torch.randint(-1, 2, (3, 5), dtype=torch.int8))
            self.bias = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.to(x.dtype).T

    model = nn.Sequential(Ternary())
    settings = config(targets=("*",))
    x = torch.randn(2, 5)
    before = model(x)
    trained(model, settings)
    assert torch.equal(model[0](x), before)
    with analogy(model, queries(2, settings)):
        assert not torch.allclose(model[0](x), before)


@pytest.mark.parametrize("shape", [(5,), (2, 2, 3, 5)])
def test_other_numbers_of_axes_are_refused(shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Linear(5, 4))
    trained(model, config(targets=("*",)))
    with (
        analogy(model, queries(2, config(targets=("*",)))),
        pytest.raises(ValueError, match=r"takes \[batch, width\] or \[batch, tokens"),
    ):
        basis_layers(model)["0"](torch.zeros(shape))
