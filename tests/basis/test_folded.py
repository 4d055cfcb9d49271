"""One analogy inside the weights, and out again."""

import copy
from typing import Any

import pytest
import torch

from lorweb.basis import analogy, basis_layers, mix, remove_basis
from lorweb.basis.fold import bake, factors, fold, folded, unfold
from lorweb.basis.mixes import mix_hash
from tests.basis.cases import config, queries, run, trained, two_linears
from tests.tiny import tiny_transformer

SETTINGS = config()
LAYER = config(targets=("*",))


@pytest.fixture
def model() -> Any:
    made = tiny_transformer(0)
    trained(made, SETTINGS)
    return made


def test_folding_equals_the_live_analogy_and_unfolds_to_the_bit(model: Any) -> None:
    query_BQ, before = queries(1, SETTINGS), copy.deepcopy(model.state_dict())
    base = run(model, 2)
    with analogy(model, query_BQ, strength=0.7):
        expected = run(model, 2)
    with folded(model, query_BQ, strength=0.7):
        torch.testing.assert_close(run(model, 2), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(run(model, 2), base)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    with pytest.raises(KeyError), folded(model, query_BQ):
        raise KeyError
    assert torch.equal(run(model, 2), base)


def test_a_bfloat16_base_unfolds_to_the_bit() -> None:
    model = tiny_transformer(0).to(torch.bfloat16)
    trained(model, SETTINGS)
    before = copy.deepcopy(model.state_dict())
    fold(model, queries(1, SETTINGS))
    changed = [k for k, v in model.state_dict().items() if not torch.equal(before[k], v)]
    assert len(changed) == 26
    unfold(model)
    assert all(torch.equal(before[k], v) and v.dtype == before[k].dtype for k, v in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_weight_gets_the_sum_rounded_once(dtype: torch.dtype) -> None:
    """The update is as large as the weight: rounding it first, or its product, would move a fifth of the values."""
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(40, 30).to(dtype))
    trained(made, LAYER)
    layer, query_BQ = basis_layers(made)["0"], queries(1, LAYER)
    layer.B.data.mul_(20)
    e_K = mix(made, query_BQ)[0, 0].detach().double().repeat_interleave(LAYER.rank)
    W = layer.weight.detach().double()
    update = (layer.B.detach().double() * e_K) @ layer.A.detach().double()
    assert 0.3 < float(update.norm() / W.norm()) < 30
    fold(made, query_BQ)
    apart = (layer.weight != (W + update).to(dtype)).double().mean()
    assert layer.unfolded is not None and layer.unfolded.dtype == dtype, "twice the memory, not three times"
    assert layer.weight.dtype == dtype and float(apart) < 0.005, "float32 sums decide a few ties otherwise"


def test_factors_are_float32_products_also_of_a_basis_in_16_bits() -> None:
    made = two_linears().to(torch.bfloat16)
    layer, e_N = basis_layers(made)["0"], torch.tensor([1 / 3, -0.2, 0.7, 0.1])
    A_KI, B_OK = factors(layer, e_N)
    assert A_KI.dtype == B_OK.dtype == torch.float32 and torch.equal(A_KI, layer.A.float())
    for n in range(4):
        for j in range(LAYER.rank):
            column = n * LAYER.rank + j
            assert torch.equal(B_OK[:, column], layer.B[:, column].float() * e_N[n])


def test_a_model_cast_while_folded_gets_its_weights_back_in_the_new_dtype() -> None:
    made = two_linears()
    before = {name: layer.weight.detach().clone() for name, layer in basis_layers(made).items()}
    fold(made, queries(1, LAYER))
    made.to(torch.float64)
    unfold(made)
    for name, layer in basis_layers(made).items():
        assert layer.weight.dtype == torch.float64 and torch.equal(layer.weight, before[name].double())


def test_a_shape_that_is_a_query_and_a_mix_is_refused_and_either_can_be_said() -> None:
    made = two_linears(n_loras=12)
    torch.manual_seed(0)
    rows = torch.rand(2, 12)
    with pytest.raises(
        ValueError, match=r"shape \(2, 12\) is a query as well as a mix here; give \[12\] for the query"
    ):
        bake(made, rows)
    assert bake(made, rows[None]).mix == mix_hash(rows)
    assert bake(made, rows[0]).mix == mix_hash(mix(made, rows[:1])[0])


def test_a_tensor_of_another_kind_is_not_written_to() -> None:
    """Quantised tensors are subclasses that call themselves float32."""

    class Packed(torch.Tensor):
        pass

    made = two_linears()
    layer = basis_layers(made)["1"]
    layer.base.weight = torch.nn.Parameter(layer.weight.detach().as_subclass(Packed))
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=r"1 has a quantised weight \(Packed, torch.float32\)"):
        fold(made, queries(1, LAYER))
    assert torch.equal(layer.weight, before) and not basis_layers(made)["0"].folded


def test_a_weight_of_another_shape_is_not_written_to() -> None:
    """Some linears keep their matrix transposed."""

    class Transposed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features, self.bias = 5, 4, None
            self.weight = torch.nn.Parameter(torch.ones(5, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    made = torch.nn.Sequential(torch.nn.Linear(3, 5), Transposed())
    trained(made, LAYER)
    with pytest.raises(ValueError, match="cannot take an update; use"):
        fold(made, queries(1, LAYER))
    assert not any(layer.folded for layer in basis_layers(made).values())


def test_a_fold_that_failed_half_way_leaves_every_weight_as_it_was() -> None:
    made = two_linears()
    layers = basis_layers(made)
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    whole, layers["1"].B.data = layers["1"].B.data, layers["1"].B.data[:3]
    with pytest.raises(RuntimeError):
        fold(made, queries(1, LAYER))
    assert not layers["0"].folded and not layers["1"].folded
    layers["1"].B.data = whole
    with folded(made, queries(1, LAYER)):
        assert not torch.equal(layers["0"].weight, before["0"])
    assert all(torch.equal(layer.weight, before[name]) for name, layer in layers.items())


def test_what_cannot_be_folded_is_refused(model: Any) -> None:
    query_BQ = queries(2, SETTINGS)
    with pytest.raises(ValueError, match="got 2 analogies"):
        bake(model, query_BQ)
    with pytest.raises(ValueError, match="rank is 0"):
        bake(model, query_BQ[0], rank=0)
    with pytest.raises(ValueError, match=r"shape \(3,\), this basis needs \[batch, 12\]"):
        bake(model, torch.zeros(3))
    with pytest.raises(ValueError, match="nothing is folded"):
        unfold(model)
    fold(model, query_BQ[0])
    with pytest.raises(ValueError, match="folded into this transformer already"):
        fold(model, query_BQ[0])
    with pytest.raises(ValueError, match="folded into 26 layers"):
        remove_basis(model)
    with pytest.raises(RuntimeError, match="would be added twice"), analogy(model, query_BQ):
        pass
    unfold(model)
    model.transformer_blocks[0].attn.to_q.base.weight = torch.nn.Parameter(
        torch.zeros(32, 32, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(
        ValueError, match=r"transformer_blocks.0.attn.to_q has a quantised weight \(Tensor, torch.int8\)"
    ):
        fold(model, query_BQ[0])


def test_folding_inside_an_analogy_or_into_a_shared_weight_is_refused(model: Any) -> None:
    query_Q = queries(1, SETTINGS)[0]
    with analogy(model, query_Q), pytest.raises(ValueError, match="an analogy is open and would be added twice"):
        fold(model, query_Q)
    with pytest.raises(ValueError, match="strength is nan"):
        fold(model, query_Q, strength=float("nan"))
    attention = model.transformer_blocks[0].attn
    attention.to_k.base.weight = attention.to_q.base.weight
    with pytest.raises(ValueError, match="two layers share one weight"):
        fold(model, query_Q)
    with pytest.raises(ValueError, match="nothing is folded"):
        unfold(model)
