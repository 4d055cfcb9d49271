"""A model with internal queries keeps the promises of every basis, or refuses."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorweb.basis import add_basis, analogy, basis_layers, count_parameters, mix, router_of, target_sizes
from lorweb.basis.checkpoint import load, load_official, save, save_official
from lorweb.basis.fold import bake
from tests.basis.cases import INTERNAL, config, gradients, trained
from tests.basis.internal_cases import SETTINGS, inputs, internal
from tests.tiny import grid_ids, tiny_inputs, tiny_transformer


@pytest.fixture
def model() -> Any:
    return internal()


def step(transformer: nn.Module, batch: int = 2) -> dict[str, Tensor]:
    transformer.zero_grad()
    with analogy(transformer):
        transformer(**inputs(batch)).sample.square().mean().backward()
    return gradients(transformer)


def test_gradients_reach_everything_and_checkpointing_changes_nothing(model: Any) -> None:
    plain = step(model)
    assert len(plain) == 3 * 26 + 1 and all(bool(g.any()) for g in plain.values())
    model.train()
    model.enable_gradient_checkpointing()
    again = step(model)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_backward_after_the_block_is_refused_under_checkpointing(model: Any) -> None:
    model.train()
    model.enable_gradient_checkpointing()
    with analogy(model):
        loss = model(**inputs()).sample.square().mean()
    with pytest.raises(RuntimeError, match="call backward inside"):
        loss.backward()


def test_rows_are_independent_and_the_model_is_the_base_without_an_analogy(model: Any) -> None:
    given = inputs(3)
    with torch.no_grad():
        base = model(**given).sample
        with analogy(model):
            before = model(**given).sample
        changed = given | {"hidden_states": given["hidden_states"].clone()}
        changed["hidden_states"][1] += 1.0
        with analogy(model):
            after = model(**changed).sample
        with analogy(model, strength=0.0):
            assert torch.equal(model(**given).sample, base)
        assert torch.equal(model(**given).sample, base)
    assert torch.equal(before[[0, 2]], after[[0, 2]]) and not torch.equal(before[1], after[1])
    assert not torch.allclose(before, base, atol=1e-3)


def test_blocks_nest_over_grids_of_different_size(model: Any) -> None:
    given = inputs(1)
    other = tiny_inputs(1, 2 * 2 * 8) | {"img_ids": grid_ids(2, 8)}
    with torch.no_grad():
        with analogy(model):
            first = model(**given).sample
        with analogy(model):
            with analogy(model, strength=0.5):
                model(**other)
            assert torch.equal(model(**given).sample, first)
    assert not any(layer.own_query or layer.tokens_M is not None for layer in basis_layers(model).values())


def test_the_untrained_model_is_the_base_and_copies_carry_no_open_analogy() -> None:
    transformer = tiny_transformer(0)
    expected = transformer(**inputs()).sample
    sizes = target_sizes(transformer, SETTINGS.targets)
    report = add_basis(transformer, SETTINGS, seed=0)
    assert report.trainable_parameters == count_parameters(SETTINGS, sizes.values())
    assert {p.shape[1] for p in router_of(transformer).projection} == {i for i, _ in sizes.values()}
    with analogy(transformer):
        assert torch.equal(transformer(**inputs()).sample, expected)
        twin = copy.deepcopy(transformer)
    assert torch.equal(twin(**inputs()).sample, expected)


def test_files_keep_every_bit_in_both_formats(model: Any, tmp_path: Path) -> None:
    with torch.no_grad(), analogy(model):
        expected = model(**inputs()).sample
    save(model, tmp_path / "own.safetensors", {})
    weights, settings = save_official(model, tmp_path / "official", dtype=torch.float32)
    own, official = tiny_transformer(0), tiny_transformer(0)
    assert load(own, tmp_path / "own.safetensors")[0] == SETTINGS
    assert load_official(official, weights, settings) == SETTINGS
    for other in (own, official):
        with torch.no_grad(), analogy(other):
            assert torch.equal(other(**inputs()).sample, expected)


def test_there_is_no_query_to_give_and_nothing_to_fold(model: Any) -> None:
    L, N, _ = router_of(model).keys.shape
    for call in (
        lambda: mix(model, torch.zeros(1, 12)),
        lambda: bake(model, torch.zeros(L, N)),
        lambda: analogy(model, torch.zeros(1, 12)).__enter__(),
        lambda: analogy(model, mix=torch.zeros(L, N)).__enter__(),
    ):
        with pytest.raises(ValueError, match="has internal queries"):
            call()


def test_without_projection_only_layers_of_the_keys_width_fit() -> None:
    settings = config(**{**INTERNAL, "projection": "none", "key_dim": 32})
    transformer = tiny_transformer(0)
    with pytest.raises(ValueError, match=r"ff\.net\.2 asks with its own 128 values.*key_dim must be that width"):
        add_basis(transformer, settings, seed=0)
    assert all(p.requires_grad for p in transformer.parameters()), "a refused call changes nothing"
    attention = settings.model_copy(update={"targets": ("*.attn.to_?",)})
    trained(transformer, attention)
    with torch.no_grad():
        base = transformer(**inputs()).sample
        with analogy(transformer):
            assert not torch.allclose(transformer(**inputs()).sample, base, atol=1e-3)


@pytest.mark.slow
def test_compiled_blocks_agree(model: Any) -> None:
    with torch.no_grad(), analogy(model):
        expected = model(**inputs()).sample
        torch._dynamo.reset()
        model.compile_repeated_blocks(backend="eager", fullgraph=True)
        torch.testing.assert_close(model(**inputs()).sample, expected)


def grid_inputs() -> dict[str, Tensor]:
    return tiny_inputs(2, 16) | {"img_ids": grid_ids(2, 4)}


def test_position_ids_with_a_batch_axis_mean_the_same() -> None:
    model, given = internal(), grid_inputs()
    with torch.no_grad(), analogy(model):
        expected = model(**given).sample
        batched = given | {"img_ids": given["img_ids"][None], "txt_ids": given["txt_ids"][None]}
        assert torch.equal(model(**batched).sample, expected)


def test_layers_outside_of_the_blocks_have_no_internal_query() -> None:
    with pytest.raises(ValueError, match="context_embedder lies outside of the blocks"):
        add_basis(tiny_transformer(0), config(**{**INTERNAL, "targets": ("context_embedder",)}), seed=0)


def test_strength_scales_the_update_of_an_internal_query() -> None:
    model, given = internal(activation="tanh"), grid_inputs()
    layer, seen = basis_layers(model)["transformer_blocks.0.norm1.linear"], []  # its input is the same at any strength
    layer.register_forward_hook(lambda _, args, y: seen.append(y - layer.base(args[0])))
    with torch.no_grad():
        for strength in (1.0, 0.5, -2.0):
            with analogy(model, strength=strength):
                model(**given)
    assert float(seen[0].abs().max()) > 0.01
    torch.testing.assert_close(seen[1], 0.5 * seen[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen[2], -2.0 * seen[0], rtol=1e-4, atol=1e-5)
