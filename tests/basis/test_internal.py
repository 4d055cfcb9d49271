"""Internal queries: which tokens a layer asks with, and that it asks what the equations say."""

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lorweb.basis import add_basis, analogy, basis_layers, count_parameters, mix, router_of, target_sizes
from lorweb.basis.checkpoint import load, load_official, save, save_official
from lorweb.basis.fold import bake
from lorweb.basis.internal import MODES, token_indices
from tests.basis.cases import INTERNAL, config, gradients, trained
from tests.basis.oracle import coefficients, update
from tests.tiny import TEXT_TOKENS, grid_ids, tiny_inputs, tiny_transformer

SETTINGS = config(**INTERNAL)
ROWS, COLUMNS = 4, 6  # tokens of one grid: not square, so that rows and columns cannot be confused


def inputs(batch: int = 2) -> dict[str, Tensor]:
    return tiny_inputs(batch, 2 * ROWS * COLUMNS) | {"img_ids": grid_ids(ROWS, COLUMNS)}


@pytest.fixture
def model() -> Any:
    made = tiny_transformer(0)
    trained(made, SETTINGS)
    return made


def quadrants_of(mode: str) -> set[tuple[int, int, int]]:
    """(t, lower, right) of every token that the mode pools among the image tokens."""
    control = {(1, lower, right) for lower, right in itertools.product((0, 1), repeat=2)}
    noisy = {(0, lower, right) for _, lower, right in control}
    return {
        "aa'bb'": control | noisy,
        "caa'bb'": control,
        "caa'": {(1, 0, 0), (1, 0, 1)},
        "caa'b": control - {(1, 1, 1)},
    }[mode]


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 6), (6, 4), (2, 8), (8, 2)])
@pytest.mark.parametrize("mode", sorted(MODES))
def test_modes_pool_the_quadrants_that_they_name(mode: str, rows: int, columns: int) -> None:
    found = token_indices(mode, grid_ids(rows, columns), 5)
    everything = 2 * rows * columns
    image_M = torch.arange(everything) if found["image"] is None else found["image"]
    wanted = [
        t * rows * columns + row * columns + column
        for t, row, column in itertools.product((0, 1), range(rows), range(columns))
        if (t, int(row >= rows // 2), int(column >= columns // 2)) in quadrants_of(mode)
    ]
    assert image_M.tolist() == wanted
    assert found["text"] is None
    assert found["joint"] is None if mode == "aa'bb'" else found["joint"].tolist() == [5 + i for i in wanted]


def test_a_grid_without_control_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no image token has position id t = 1"):
        token_indices("caa'", torch.zeros(4, 3), 5)
    assert token_indices("aa'bb'", torch.zeros(4, 3), 5)["image"] is None


@pytest.mark.parametrize(
    ("mode", "pooling", "activation", "heads", "reduce"),
    [
        ("caa'b", "avg", "softmax", 1, "mean"),
        ("caa'b", "max", "tanh", 2, "sum"),
        ("caa'", "avg", "tanh", 1, "mean"),
        ("caa'bb'", "max", "softmax", 4, "mean"),
        ("aa'bb'", "avg", "softmax", 2, "sum"),
    ],
)
def test_every_layer_answers_as_the_equations_say(
    mode: str, pooling: str, activation: str, heads: int, reduce: str
) -> None:
    """The oracle gets each layer's input from a hook, and picks the tokens by loops over rows and columns."""
    changes = {"query_mode": mode, "pooling": pooling, "activation": activation, "heads": heads, "reduce": reduce}
    settings = config(**{**INTERNAL, **changes})
    transformer = tiny_transformer(0)
    trained(transformer, settings)
    layers, router = basis_layers(transformer), router_of(transformer)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, args, y, name=name: seen.__setitem__(name, (args[0], y)))
    with torch.no_grad(), analogy(transformer) as e_BLN:
        transformer(**inputs())
    assert e_BLN is None and len(seen) == len(layers) == 26
    shapes = set()
    for index, (name, layer) in enumerate(layers.items()):
        x, y = (value.double().numpy() for value in seen[name])
        shapes.add(x.shape[1:-1])
        P = router.projection[index].detach().double().numpy()
        keys = list(router.keys[index].detach().double().numpy())
        A, B = layer.A.detach().double().numpy(), layer.B.detach().double().numpy()
        parts = [slice(i * 2, i * 2 + 2) for i in range(4)]
        for b in range(2):
            e = coefficients(pooled(x[b], mode, pooling), P, keys, heads, activation, reduce)
            dW = update(e, [A[p] for p in parts], [B[:, p] for p in parts])
            plain = x[b] @ layer.weight.double().numpy().T
            plain += 0 if layer.bias is None else layer.bias.double().numpy()
            np.testing.assert_allclose(y[b], plain + x[b] @ dW.T, rtol=1e-4, atol=1e-4, err_msg=name)
    images = 2 * ROWS * COLUMNS
    assert shapes == {(), (images,), (TEXT_TOKENS,), (TEXT_TOKENS + images,)}, "a kind of layer was not covered"


def pooled(x: Any, mode: str, pooling: str) -> Any:
    if x.ndim == 1:
        return x
    images = 2 * ROWS * COLUMNS
    first = {images: 0, TEXT_TOKENS + images: TEXT_TOKENS}.get(len(x))  # None: a layer that sees text alone
    chosen = list(range(len(x)))
    if first is not None and mode != "aa'bb'":
        chosen = [
            first + t * ROWS * COLUMNS + row * COLUMNS + column
            for t, row, column in itertools.product((0, 1), range(ROWS), range(COLUMNS))
            if (t, int(row >= ROWS // 2), int(column >= COLUMNS // 2)) in quadrants_of(mode)
        ]
    return x[chosen].mean(0) if pooling == "avg" else x[chosen].max(0)


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


def test_compiled_blocks_agree(model: Any) -> None:
    with torch.no_grad(), analogy(model):
        expected = model(**inputs()).sample
        torch._dynamo.reset()
        model.compile_repeated_blocks(backend="eager", fullgraph=True)
        torch.testing.assert_close(model(**inputs()).sample, expected)
