"""A basis without its base, against the same basis in its transformer."""

from pathlib import Path

import pytest
import torch

from lorweb.basis import basis_layers, checkpoint, mix, router_of
from lorweb.basis.bare import load_bare
from lorweb.basis.files import read_safetensors, write_safetensors
from lorweb.basis.fold import bake
from lorweb.basis.health import health
from tests.basis.cases import INTERNAL, config, queries, trained
from tests.tiny import tiny_transformer


def saved(path: Path, settings):
    model = tiny_transformer(0)
    trained(model, settings)
    checkpoint.save(model, path, {})
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"projection": "shared", "activation": "tanh"},
        {"projection": "none", "query_dim": 8},
        {"targets": ("single_transformer_blocks.1.*", "transformer_blocks.*.attn.to_k")},
    ],
)
def test_it_answers_as_the_transformer_does(tmp_path, changes) -> None:
    settings = config(**changes)
    model = saved(tmp_path / "b.safetensors", settings)
    bare, query_BQ = load_bare(tmp_path / "b.safetensors"), queries(5, settings)
    assert router_of(bare).config == settings and list(basis_layers(bare)) == list(basis_layers(model))
    assert torch.equal(mix(bare, query_BQ), mix(model, query_BQ))
    assert health(bare, query_BQ) == health(model, query_BQ)
    mine, theirs = (bake(m, query_BQ[0], rank=2).state_dict for m in (bare, model))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_it_holds_nothing_but_the_basis(tmp_path) -> None:
    model = saved(tmp_path / "b.safetensors", config())
    bare = load_bare(tmp_path / "b.safetensors")
    sizes = [sum(p.numel() for p in m.parameters()) for m in (bare, model)]
    assert sizes[0] == sum(t.numel() for t in checkpoint.state(model).values()) < sizes[1]
    assert not any(p.requires_grad for p in bare.parameters())


def test_internal_queries_load_too(tmp_path) -> None:
    model = saved(tmp_path / "b.safetensors", config(**INTERNAL))
    bare = load_bare(tmp_path / "b.safetensors")
    for key, value in checkpoint.state(model).items():
        assert torch.equal(checkpoint.state(bare)[key], value)
    with pytest.raises(ValueError, match="internal queries"):
        health(bare, torch.zeros(1, 12))


def test_what_is_no_basis_is_refused_as_loading_refuses_it(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_bare(tmp_path / "gone.safetensors")
    write_safetensors(tmp_path / "other.safetensors", {"x": torch.zeros(2)}, {"who": "else"})
    with pytest.raises(ValueError, match="is no lorweb checkpoint"):
        load_bare(tmp_path / "other.safetensors")
    saved(tmp_path / "b.safetensors", config())
    tensors, metadata = read_safetensors(tmp_path / "b.safetensors")
    factor = "transformer_blocks.0.attn.to_q.A"
    for edit, message in (
        ({factor: None}, f"'{factor}' is missing"),
        ({factor: torch.zeros(())}, rf"'{factor}' has shape \(\), not two axes"),
        ({"router.keys": None}, "does not fit: .*keys are missing"),
    ):
        rest = {name: value for name, value in (tensors | edit).items() if value is not None}
        write_safetensors(tmp_path / "c.safetensors", rest, metadata)
        with pytest.raises(ValueError, match=message):
            load_bare(tmp_path / "c.safetensors")
