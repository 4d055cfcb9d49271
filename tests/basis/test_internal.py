"""Internal queries: which tokens a layer asks with, and that it asks what the equations say."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lorweb.basis import analogy, basis_layers, router_of
from lorweb.basis.internal import MODES, pool, stream_of, token_indices
from tests.basis.cases import INTERNAL, config, trained
from tests.basis.internal_cases import COLUMNS, ROWS, inputs, internal
from tests.basis.oracle import coefficients, update
from tests.tiny import TEXT_TOKENS, grid_ids, tiny_transformer


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


def test_only_the_control_grid_decides_where_quadrants_end() -> None:
    """A noisy grid of another size and a further reference (t = 2) lie beside it in the sequence."""
    noisy, control = grid_ids(8, 8)[:64], grid_ids(2, 4)[8:]
    ids = torch.cat([noisy, control, torch.tensor([[2.0, 0.0, 0.0]])])
    found = {mode: token_indices(mode, ids, 0)["image"] for mode in MODES}
    assert found.pop("aa'bb'") is None
    starts = {"caa'bb'": [*range(8)], "caa'": [0, 1, 2, 3], "caa'b": [0, 1, 2, 3, 4, 5]}
    assert {mode: image_M.tolist() for mode, image_M in found.items()} == {
        mode: [64 + i for i in tokens] for mode, tokens in starts.items()
    }


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling_is_in_float32_whatever_comes_in(pooling: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, tokens_M = torch.randn(2, 300, 5, generator=generator).bfloat16(), torch.arange(0, 300, 2)
    for chosen, picked in ((None, x), (tokens_M, x[:, ::2])):
        rows = picked.double().numpy()
        expected = rows.mean(1) if pooling == "avg" else rows.max(1)
        found = pool(x, chosen, pooling)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert pool(x[:, 0], None, pooling).dtype == torch.float32 and torch.equal(pool(x[:, 0], None, pooling), x[:, 0])


def test_streams_are_those_of_a_flux_block() -> None:
    double = "transformer_blocks.3."
    text = ["norm1_context.linear", "ff_context.net.0.proj", "ff_context.net.2", "attn.to_add_out"]
    text += [f"attn.add_{x}_proj" for x in "qkv"]
    image = ["norm1.linear", "ff.net.0.proj", "ff.net.2", "attn.to_out.0", *(f"attn.to_{x}" for x in "qkv")]
    names = [name for name in basis_layers(internal()) if name.startswith("transformer_blocks.")]
    assert sorted(name.split(".", 2)[2] for name in names) == sorted(text + image)
    assert {stream_of(double + name) for name in text} == {"text"}
    assert {stream_of(double + name) for name in image} == {"image"}
    assert {stream_of(f"single_{double}{name}") for name in ("attn.to_q", "proj_mlp", "proj_out")} == {"joint"}
    assert stream_of(f"transformer.{double}attn.to_q") == "image"
    for outside in ("x_embedder", "my_transformer_blocks.0.attn.to_q", "norm_out.linear"):
        with pytest.raises(ValueError, match=f"{outside} lies outside of the blocks"):
            stream_of(outside)


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
