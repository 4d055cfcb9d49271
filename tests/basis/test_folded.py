"""One analogy inside the weights, and out again."""

import copy
from typing import Any

import pytest
import torch

from lorweb.basis import analogy, remove_basis
from lorweb.basis.fold import bake, fold, folded, unfold
from tests.basis.cases import config, queries, run, trained
from tests.tiny import tiny_transformer

SETTINGS = config()


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
