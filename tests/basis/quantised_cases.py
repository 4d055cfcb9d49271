"""A basis round a base whose weights torchao has quantised to int8: live, trained, copied and compiled, never folded.

Run by test_quantised.py in a process that sees torchao.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lorweb.basis import add_basis, analogy, basis_layers, remove_basis
from lorweb.basis.checkpoint import load, save
from lorweb.basis.fold import bake, fold
from tests.basis.cases import config, gradients, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

SETTINGS = config()


def quantised() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    transformer = tiny_transformer(0)
    quantize_(transformer, Int8WeightOnlyConfig())
    kinds = {type(m.weight).__name__ for m in transformer.modules() if isinstance(m, nn.Linear)}
    assert len(kinds) == 1 and not kinds & {"Tensor", "Parameter"}, f"nothing was quantised: {kinds}"
    return transformer


@pytest.fixture
def base() -> Any:
    return quantised()


def run(model: Any) -> torch.Tensor:
    with torch.no_grad():
        sample: torch.Tensor = model(**tiny_inputs(2, 8)).sample
    return sample


def test_the_base_is_untouched_bit_for_bit(base: Any) -> None:
    before = run(base)
    assert 0 < float((before - run(tiny_transformer(0))).norm() / before.norm()) < 0.05, "int8 rounds a little"
    add_basis(base, SETTINGS, seed=0)
    assert torch.equal(run(base), before)
    with analogy(base, queries(2, SETTINGS)):
        assert torch.equal(run(base), before)
    trained_again = copy.deepcopy(base)
    for layer in basis_layers(trained_again).values():
        layer.B.data.normal_()
    with analogy(trained_again, queries(2, SETTINGS), strength=0.0):
        assert torch.equal(run(trained_again), before)
    remove_basis(trained_again)
    assert torch.equal(run(trained_again), before)


def test_the_update_is_that_of_the_float_base(base: Any) -> None:
    """Layer by layer: y - W0 x does not depend on how W0 is stored."""
    plain = tiny_transformer(0)
    trained(base, SETTINGS)
    trained(plain, SETTINGS)
    layers, floats = basis_layers(base), basis_layers(plain)
    assert layers.keys() == floats.keys() and len(layers) == 26
    with torch.no_grad():
        for name, layer in layers.items():
            x = torch.randn(2, 3, layer.in_features)
            with analogy(base, queries(2, SETTINGS)):
                update = layer(x) - layer.base(x)
            with analogy(plain, queries(2, SETTINGS)):
                expected = floats[name](x) - floats[name].base(x)
            torch.testing.assert_close(update, expected, rtol=1e-3, atol=1e-5)


def test_gradients_reach_the_basis_and_checkpointing_changes_nothing(base: Any) -> None:
    trained(base, SETTINGS)

    def step() -> dict[str, torch.Tensor]:
        base.zero_grad()
        with analogy(base, queries(2, SETTINGS)):
            base(**tiny_inputs(2, 8)).sample.square().mean().backward()
        return gradients(base)

    first = step()
    assert len(first) == 2 * 26 + 2 and all(bool(g.any()) for g in first.values())
    base.train()
    base.enable_gradient_checkpointing()
    again = step()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_files_copies_and_compiled_blocks(base: Any, tmp_path: Path) -> None:
    trained(base, SETTINGS)
    with analogy(base, queries(2, SETTINGS)):
        expected = run(base)
    save(base, tmp_path / "basis.safetensors", {})
    other = quantised()
    load(other, tmp_path / "basis.safetensors")
    for model in (other, copy.deepcopy(base)):
        with analogy(model, queries(2, SETTINGS)):
            assert torch.equal(run(model), expected)
    torch._dynamo.reset()
    other.compile_repeated_blocks(backend="eager", fullgraph=True)
    with analogy(other, queries(2, SETTINGS)):
        torch.testing.assert_close(run(other), expected)


def test_int8_weights_are_baked_beside_and_never_folded_into(base: Any) -> None:
    trained(base, SETTINGS)
    before = run(base)
    assert len(bake(base, queries(1, SETTINGS)).state_dict) == 2 * 26
    with pytest.raises(ValueError, match=r"has a quantised weight .* use analogy"):
        fold(base, queries(1, SETTINGS))
    assert torch.equal(run(base), before)
