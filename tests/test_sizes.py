"""Sizes of bases on the meta device: against the paper's counts, stock PEFT, files on disk, and encoders as loaded."""

import json
from pathlib import Path

import pytest
import torch

from lorweb.basis import BasisConfig, add_basis, checkpoint, feature_dim, query_dim
from lorweb.basis.encoders import PACKAGED, load_encoder
from lorweb.kontext.load import load_base
from lorweb.profiles import load_profile
from lorweb.sizes import (
    ABLATIONS,
    KONTEXT,
    PAPER,
    BasisSize,
    basis_size,
    basis_sizes,
    json_tree,
    meta_transformer,
    own_config,
    query_width,
    write_json,
)
from lorweb.training.baseline import new_single_lora
from tests.basis.cases import INTERNAL, config
from tests.model_tiny import save_parts
from tests.tiny import tiny_transformer

ROOT = Path(__file__).parents[1]
COUNTS = {  # of the paper's model card and of its ablations, by hand from the table of FLUX.1's blocks
    "paper: N32 r4": 835_051_520,
    "N32 r16": 2_897_076_224,
    "N8 r16": 833_533_952,
    "N16 r4": 490_369_024,
    "N64 r4": 1_524_416_512,
    "2x2 grid as encoder input": 737_927_168,
    "tanh": 835_051_520,
    "SigLIP2": 835_051_520,
    "shared projection": 835_051_520 - 493 * 128 * 2304,
    "single LoRA r128": 687_341_568,
    "single LoRA r256": 1_374_683_136,
}


@pytest.fixture(scope="module")
def flux() -> list[BasisSize]:
    return basis_sizes(KONTEXT, None, "")


@pytest.mark.slow
def test_every_ablation_of_the_paper_to_the_unit(flux) -> None:
    assert {size.name: size.parameters for size in flux} == COUNTS
    assert {size.layers for size in flux} == {494}
    paper = flux[0]
    assert (paper.basis, paper.keys, paper.projections) == (687_341_568, 2_023_424, 145_686_528)
    assert (paper.float16_bytes, paper.float32_bytes, paper.mix_bytes) == (1_670_103_040, 3_340_206_080, 63_232)
    assert all(size.basis + size.keys + size.projections == size.parameters for size in flux)


@pytest.mark.slow
def test_the_paper_profile_is_the_paper(flux) -> None:
    own, baseline, *rest = basis_sizes(KONTEXT, load_profile(ROOT, "paper"), "profile paper")
    assert own.parameters == 835_051_520 and rest == flux
    assert (baseline.name, baseline.parameters) == ("profile paper: single LoRA r128", 687_341_568)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [128, 256])
def test_single_loras_are_as_large_as_stock_peft_makes_them(flux, rank) -> None:
    with torch.device("meta"):
        variant = new_single_lora(meta_transformer(KONTEXT), rank, BasisConfig(**PAPER).targets, seed=0)
    assert [size.parameters for size in flux if size.name == f"single LoRA r{rank}"] == [variant.size]


def test_tiny_and_a_folder_have_the_shapes_of_the_models_they_hold(tmp_path) -> None:
    folder = str(save_parts(tmp_path) / "kontext")
    for base in ("tiny", folder):
        model, loaded = meta_transformer(base), load_base(base, torch.float32, "cpu").transformer
        shapes = [{name: p.shape for name, p in m.named_parameters()} for m in (model, loaded)]
        assert shapes[0] == shapes[1] and all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(
    "changes", [{}, {"projection": "shared"}, {"projection": "none", "query_dim": 8}, INTERNAL], ids=str
)
def test_the_bytes_are_those_of_a_file(tmp_path, changes) -> None:
    settings, model = config(**changes), tiny_transformer(0)
    size = basis_size("x", model, settings)
    add_basis(model, settings, seed=0)  # the measured basis is out again
    checkpoint.save(model, tmp_path / "b.safetensors", {})
    header = int.from_bytes((tmp_path / "b.safetensors").read_bytes()[:8], "little")
    assert (tmp_path / "b.safetensors").stat().st_size - 8 - header == size.float32_bytes == 2 * size.float16_bytes
    assert size.mix_bytes == (0 if settings.internal else 4 * 26 * settings.n_loras)


def test_widths_are_those_of_the_encoders_as_loaded(tmp_path) -> None:
    clip = f"clip:{save_parts(tmp_path) / 'clip'}"
    for name, modes in ((PACKAGED, ("cat-aa'b", "caa'b")), (clip, ("cat-aa'b", "caa'b", "cat-paa'b", "paa'b"))):
        encoder = load_encoder(name)
        for mode in modes:
            assert query_width(name, mode) == query_dim(mode, feature_dim(encoder, mode)), (name, mode)
    assert query_width("clip:openai/clip-vit-large-patch14", "cat-aa'b") == 2304
    assert query_width("clip:openai/clip-vit-large-patch14", "paa'b") == 1024


def test_the_pipeline_trains_what_the_plan_counts() -> None:
    """The default profile, against the basis that lies in the tiny base after the same settings."""
    params = load_profile(ROOT, None)
    own = basis_sizes("tiny", params, "params.yaml")[0]
    base = load_base("tiny", torch.float32, "cpu")
    assert add_basis(base.transformer, own_config(params), seed=0).trainable_parameters == own.parameters


def test_json_holds_every_row(tmp_path, flux) -> None:
    write_json(json_tree(flux, KONTEXT), tmp_path / "s.json")
    tree = json.loads((tmp_path / "s.json").read_text())
    assert tree["base"] == KONTEXT and [BasisSize(**row) for row in tree["sizes"]] == flux
    assert len(flux) == len(ABLATIONS) + 2


def test_what_cannot_be_sized_is_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(FileNotFoundError, match="no base at 'nowhere'"):
        meta_transformer("nowhere")
    with pytest.raises(FileNotFoundError, match=r"no transformer/config.json of .*; give a folder"):
        meta_transformer(str(tmp_path))
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"_class_name": "SD3Transformer2DModel"}')
    with pytest.raises(ValueError, match="has a SD3Transformer2DModel, not a FluxTransformer2DModel"):
        meta_transformer(str(tmp_path))
    with pytest.raises(ValueError, match=r"no file here tells how wide .* 'clip:a/b' are"):
        query_width("clip:a/b", "cat-aa'b")
    with pytest.raises(ValueError, match="needs patch tokens, which encoder efficientnet-lite0"):
        query_width(PACKAGED, "paa'b")
