"""The promise matrix: every variant of the method keeps every promise, on the stock transformer."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from lorweb.basis import BasisConfig, add_basis, analogy, basis_layers, count_parameters, query_dim, remove_basis
from lorweb.basis import target_sizes as sizes_of
from lorweb.basis.checkpoint import load, load_official, save, save_official
from lorweb.basis.fold import bake
from tests.basis.cases import gradients, queries, trained
from tests.tiny import tiny_inputs, tiny_transformer

FEATURES = 6
VARIANTS: list[dict[str, Any]] = [
    {},  # the paper's choices
    {"n_loras": 1, "rank": 8},  # a single LoRA
    {"n_loras": 8, "rank": 1, "key_dim": 4},
    {"n_loras": 3, "rank": 5},
    {"activation": "tanh"},
    {"heads": 4},
    {"heads": 4, "reduce": "sum"},
    {"heads": 2, "reduce": "sum", "activation": "tanh"},
    {"projection": "none", "key_dim": 18},
    {"projection": "none", "key_dim": 6, "heads": 3, "query_mode": "ca'-ca", "activation": "tanh"},
    {"projection": "shared"},
    {"projection": "shared", "heads": 2, "activation": "tanh", "reduce": "sum"},
    {"query_mode": "ca'-ca"},
    {"query_mode": "ca'-ca+cb"},
    {"query_mode": "caa'"},
    {"query_mode": "caa'b"},
    {"query_mode": "caa'bb'", "activation": "tanh", "reduce": "sum"},
    {"query_mode": "aa'bb'", "n_loras": 2},
    {"query_mode": "paa'b"},
    {"query_mode": "paa'b3", "heads": 2},
    {"query_mode": "cat-paa'b", "n_loras": 8},
    {"query_mode": "cat-paa'b3", "activation": "tanh"},
    {"targets": ("*.attn.to_?", "*.norm.linear", "*.norm1*.linear")},
]


def variant(changes: dict[str, Any]) -> BasisConfig:
    chosen = {"n_loras": 4, "rank": 2, "key_dim": 8, "heads": 1, "activation": "softmax", "reduce": "mean"}
    chosen |= {"projection": "linear", "query_mode": "cat-aa'b"} | changes
    return BasisConfig(query_dim=query_dim(chosen["query_mode"], FEATURES), **chosen)


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join(f"{k}={x}" for k, x in v.items()) or "paper")
def settings(request: pytest.FixtureRequest) -> BasisConfig:
    return variant(request.param)


@pytest.fixture(scope="module")
def base() -> Any:
    return tiny_transformer(0)


@pytest.fixture
def model(base: Any) -> Any:
    return copy.deepcopy(base)


def run(model: Any, settings: BasisConfig, rows: int = 2) -> torch.Tensor:
    with torch.no_grad(), analogy(model, queries(rows, settings)):
        sample: torch.Tensor = model(**tiny_inputs(rows, 6)).sample
    return sample


def step(model: Any, settings: BasisConfig) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with analogy(model, queries(2, settings)):
        model(**tiny_inputs(2, 6)).sample.square().mean().backward()
    return gradients(model)


def test_starts_as_the_base_and_can_be_taken_out(base: Any, model: Any, settings: BasisConfig) -> None:
    expected = base(**tiny_inputs(2, 6)).sample
    sizes = sizes_of(model, settings.targets)
    report = add_basis(model, settings, seed=0)
    assert torch.equal(run(model, settings), expected)
    assert report.trainable_parameters == count_parameters(settings, sizes.values())
    trained_again = copy.deepcopy(model)
    for layer in basis_layers(trained_again).values():
        layer.B.data.normal_()
    assert not torch.allclose(run(trained_again, settings), expected, atol=1e-3)
    remove_basis(trained_again)
    assert torch.equal(trained_again(**tiny_inputs(2, 6)).sample, expected)


def test_gradients_reach_everything_and_never_the_base(base: Any, model: Any, settings: BasisConfig) -> None:
    trained(model, settings)
    found = step(model, settings)
    constant = settings.n_loras == 1 and settings.activation == "softmax"  # its coefficient is 1 whatever the query
    for name, gradient in found.items():
        assert gradient.isfinite().all()
        assert bool(gradient.any()) != (constant and name.startswith("basis_router")), name
    assert len(found) == 2 * len(basis_layers(model)) + 1 + (settings.projection != "none")
    for name, parameter in base.named_parameters():
        owner, _, leaf = name.rpartition(".")
        now = model.get_submodule(owner)
        assert torch.equal(getattr(now, leaf), parameter), f"the base changed at {name}"


def test_checkpointing_gives_the_same_gradients(model: Any, settings: BasisConfig) -> None:
    trained(model, settings)
    plain = step(model, settings)
    model.train()
    model.enable_gradient_checkpointing()
    again = step(model, settings)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_rows_are_independent(model: Any, settings: BasisConfig) -> None:
    trained(model, settings)
    inputs, query_BQ = tiny_inputs(3, 6), queries(3, settings)
    with torch.no_grad(), analogy(model, query_BQ):
        before = model(**inputs).sample
    changed = query_BQ.clone()
    changed[1] += 3.0
    with torch.no_grad(), analogy(model, changed):
        after = model(**inputs).sample
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    constant = settings.n_loras == 1 and settings.activation == "softmax"
    assert torch.equal(before[1], after[1]) == constant


def test_save_and_load_keep_every_bit(base: Any, model: Any, settings: BasisConfig, tmp_path: Path) -> None:
    trained(model, settings)
    save(model, tmp_path / "b.safetensors", {})
    other = copy.deepcopy(base)
    assert load(other, tmp_path / "b.safetensors")[0] == settings
    assert torch.equal(run(other, settings), run(model, settings))


def test_the_published_format_keeps_it_too(base: Any, model: Any, settings: BasisConfig, tmp_path: Path) -> None:
    trained(model, settings)
    weights, config = save_official(model, tmp_path, dtype=torch.float32)
    other = copy.deepcopy(base)
    default = settings.targets == BasisConfig.model_fields["targets"].default
    assert load_official(other, weights, config if default else settings) == settings
    assert torch.equal(run(other, settings), run(model, settings))


def test_baked_equals_live(base: Any, model: Any, settings: BasisConfig) -> None:
    trained(model, settings)
    stock = copy.deepcopy(base)
    stock.load_lora_adapter(bake(model, queries(1, settings)).state_dict, prefix="transformer")
    with torch.no_grad():
        baked = stock(**tiny_inputs(1, 6)).sample
    torch.testing.assert_close(baked, run(model, settings, 1), rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_within_its_precision(model: Any, settings: BasisConfig) -> None:
    """1000 t and 1000 g are chosen exact in bfloat16: the stock model rounds them, and that alone would change all."""
    exact_times = {"timestep": torch.tensor([0.25, 0.5]), "guidance": torch.tensor([2.0, 2.0])}
    inputs = tiny_inputs(2, 6) | exact_times
    trained(model, settings)
    with torch.no_grad():
        for layer in basis_layers(model).values():
            layer.B.mul_(2)  # an update well above bfloat16's own rounding, on any processor
        base = model(**inputs).sample
        with analogy(model, queries(2, settings)):
            exact = model(**inputs).sample
        model.to(torch.bfloat16)
        inputs = {k: v if k.endswith("ids") else v.bfloat16() for k, v in inputs.items()}
        low_base = model(**inputs).sample
        with analogy(model, queries(2, settings)):
            low = model(**inputs).sample
    assert low.dtype == torch.bfloat16
    error, base_error = (float((x.float() - y).norm() / y.norm()) for x, y in ((low, exact), (low_base, base)))
    assert error < 0.03 and error < 2 * base_error, "the basis rounds more than the base does"
    assert float((exact - base).norm() / base.norm()) > 5 * error, "the update is too small to tell"
