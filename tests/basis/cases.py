"""Configs and bases that the tests of this folder share."""

from typing import Any

import torch
from torch import Tensor, nn

from lorweb.basis import BasisConfig, add_basis, basis_layers
from lorweb.basis.fold import bake
from lorweb.basis.lora_file import Baked
from tests.tiny import tiny_inputs, tiny_transformer

PAPER_LIKE = {
    "n_loras": 4,
    "rank": 2,
    "key_dim": 8,
    "query_dim": 12,
    "heads": 1,
    "activation": "softmax",
    "reduce": "mean",
    "projection": "linear",
    "query_mode": "cat-aa'b",
}
INTERNAL = {"query_source": "internal", "pooling": "avg", "query_dim": None, "query_mode": "caa'b"}


def config(**changes: Any) -> BasisConfig:
    """The paper's choices at a tiny size, with some of them changed."""
    return BasisConfig(**{**PAPER_LIKE, **changes})


def trained(transformer: Any, settings: BasisConfig, seed: int = 0) -> list[str]:
    """Add a basis and give B values, as if it had been trained; returns the layer names."""
    report = add_basis(transformer, settings, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for layer in basis_layers(transformer).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * 0.1)
    return list(report.layers)


def two_linears(seed: int = 0, **changes: Any) -> nn.Sequential:
    """Layers "0" (10 -> 6) and "1" (6 -> 7) with a basis that has values."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(10, 6), nn.Linear(6, 7))
    trained(made, config(targets=("*",), **changes), seed)
    return made


def queries(batch: int, settings: BasisConfig, seed: int = 5) -> Tensor:
    return torch.randn(batch, settings.query_dim, generator=torch.Generator().manual_seed(seed))


def gradients(transformer: Any) -> dict[str, Tensor]:
    """{name: gradient} of everything trainable; fails if one has none."""
    found = {name: p.grad for name, p in transformer.named_parameters() if p.requires_grad}
    assert found and all(g is not None for g in found.values()), [n for n, g in found.items() if g is None]
    return {name: g.clone() for name, g in found.items() if g is not None}


def run(transformer: Any, rows: int = 1) -> Tensor:
    """What it makes of the same eight tokens every time, without gradients."""
    with torch.no_grad():
        sample: Tensor = transformer(**tiny_inputs(rows, 8)).sample
    return sample


def baked_lora(rank: int | None = None, **changes: Any) -> tuple[Any, Baked, Tensor]:
    """(transformer with a basis, its bake, the query)."""
    model, settings = tiny_transformer(0), config(**changes)
    trained(model, settings)
    query_BQ = queries(1, settings)
    return model, bake(model, query_BQ, rank), query_BQ
