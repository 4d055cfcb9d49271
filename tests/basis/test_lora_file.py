"""The file of a baked LoRA: its formats, its metadata, its dtype."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lorweb.basis import analogy, mix
from lorweb.basis.lora_file import DTYPES, known_dtype
from lorweb.basis.mixes import mix_hash
from tests.basis.cases import baked_lora, run
from tests.tiny import bare_pipeline, tiny_transformer

OUTSIDE_LINEAR1 = (
    "transformer_blocks.*",
    "single_transformer_blocks.*.norm.linear",
    "single_transformer_blocks.*.proj_out",
)


def test_a_stock_pipeline_reads_the_comfyui_file_as_the_other_one(tmp_path: Path) -> None:
    model, baked, query_BQ = baked_lora(targets=OUTSIDE_LINEAR1)
    outputs = {}
    for lora_format in ("diffusers", "comfyui"):
        file = tmp_path / f"{lora_format}.safetensors"
        baked.save(file, lora_format)
        stock = tiny_transformer(0)
        pipe = bare_pipeline(stock)
        pipe.load_lora_weights(file)
        outputs[lora_format] = run(stock)
    assert set(load_file(tmp_path / "comfyui.safetensors")).isdisjoint(baked.state_dict)
    torch.testing.assert_close(outputs["comfyui"], outputs["diffusers"], rtol=1e-5, atol=1e-6)
    with analogy(model, query_BQ):
        torch.testing.assert_close(outputs["comfyui"], run(model), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs["comfyui"], run(tiny_transformer(0)), atol=1e-2)


def test_layers_without_a_name_are_refused(tmp_path: Path) -> None:
    _, baked, _ = baked_lora(targets=("transformer_blocks.*", "x_embedder"))
    with pytest.raises(ValueError, match="layer 'x_embedder' has no name in ComfyUI's style"):
        baked.save(tmp_path / "comfy.safetensors", "comfyui")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="the format is 'a1111'; use 'diffusers' or 'comfyui'"):
        baked.save(tmp_path / "x.safetensors", "a1111")  # type: ignore[arg-type]


def test_dtypes_go_by_the_names_that_are_offered() -> None:
    expected = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    assert {name: known_dtype(name) for name in DTYPES} == expected
    for name in ("float64", "half", "nn"):
        with pytest.raises(ValueError, match=f"the dtype is '{name}'; use float16, bfloat16, float32"):
            known_dtype(name)


@pytest.mark.parametrize("lora_format", ["diffusers", "comfyui"])
def test_the_file_says_what_it_is_in_equal_bytes(lora_format: Any, tmp_path: Path) -> None:
    model, baked, query_BQ = baked_lora(3)
    told = {"base": "tiny", "basis_sha256": "ab", "rank": "what is measured goes before what is told"}
    for folder, order in (("one", list(told)), ("two", list(told)[::-1])):
        baked.save(tmp_path / folder / "warm.safetensors", lora_format, {key: told[key] for key in order})
    files = [tmp_path / folder / "warm.safetensors" for folder in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with safe_open(files[0], "pt") as file:
        metadata = file.metadata()
    assert list(metadata) and metadata["format"] == "pt" and metadata["modelspec.title"] == "warm"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("3", "3.0")
    assert (metadata["ss_sd_model_name"], metadata["ss_base_model_version"]) == ("tiny", "flux1")
    assert ("ss_network_module" in metadata) == (lora_format == "comfyui")
    report = json.loads(metadata["lorweb_bake"])
    assert (report["format"], report["rank"], report["alpha"]) == (lora_format, 3, 3)
    assert (report["base"], report["basis_sha256"]) == ("tiny", "ab")
    assert report["mix"] == mix_hash(mix(model, query_BQ)[0])
    assert report["errors"] == baked.errors and report["total_error"] == baked.total_error > 0
