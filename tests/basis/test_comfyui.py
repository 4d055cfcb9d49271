"""ComfyUI's keys: a numpy reading of the fused matrices, a base patched as ComfyUI patches it, diffusers' converter."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lorweb.basis import BLOCK_LINEARS, analogy, basis_layers, target_sizes
from lorweb.basis.comfyui import to_comfyui
from tests.basis.cases import baked_lora, run
from tests.tiny import tiny_transformer

WIDTH = 32  # of tests.tiny's transformer
# Black Forest Labs' modules, by the names of diffusers for the rows of each, in order; {i} is the block
FUSED = {
    "double_blocks.{i}.img_attn.qkv": [f"transformer_blocks.{{i}}.attn.to_{x}" for x in "qkv"],
    "double_blocks.{i}.txt_attn.qkv": [f"transformer_blocks.{{i}}.attn.add_{x}_proj" for x in "qkv"],
    "double_blocks.{i}.img_attn.proj": ["transformer_blocks.{i}.attn.to_out.0"],
    "double_blocks.{i}.txt_attn.proj": ["transformer_blocks.{i}.attn.to_add_out"],
    "double_blocks.{i}.img_mod.lin": ["transformer_blocks.{i}.norm1.linear"],
    "double_blocks.{i}.txt_mod.lin": ["transformer_blocks.{i}.norm1_context.linear"],
    "double_blocks.{i}.img_mlp.0": ["transformer_blocks.{i}.ff.net.0.proj"],
    "double_blocks.{i}.img_mlp.2": ["transformer_blocks.{i}.ff.net.2"],
    "double_blocks.{i}.txt_mlp.0": ["transformer_blocks.{i}.ff_context.net.0.proj"],
    "double_blocks.{i}.txt_mlp.2": ["transformer_blocks.{i}.ff_context.net.2"],
    "single_blocks.{i}.modulation.lin": ["single_transformer_blocks.{i}.norm.linear"],
    "single_blocks.{i}.linear1": [
        *(f"single_transformer_blocks.{{i}}.attn.to_{x}" for x in "qkv"),
        "single_transformer_blocks.{i}.proj_mlp",
    ],
    "single_blocks.{i}.linear2": ["single_transformer_blocks.{i}.proj_out"],
}


def fused_names(double: int, single: int) -> dict[str, list[str]]:
    """{module of the original code: layers of diffusers, in the order of its rows}."""
    found = {}
    for module, layers in FUSED.items():
        for i in range(double if module.startswith("double") else single):
            found[module.format(i=i)] = [layer.format(i=i) for layer in layers]
    return found


def comfy_updates(keys: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """{module as in the keys: alpha / rank * up @ down}, which is what ComfyUI adds to a weight."""
    names = [key.removesuffix(".lora_up.weight") for key in keys if key.endswith(".lora_up.weight")]
    assert names and len(keys) == 3 * len(names)
    updates = {}
    for name in names:
        up, down = (keys[f"{name}.lora_{end}.weight"].double().numpy() for end in ("up", "down"))
        updates[name] = float(keys[f"{name}.alpha"]) / down.shape[0] * up @ down
    return updates


def dense(state_dict: dict[str, Tensor], layer: str) -> np.ndarray:
    A, B = (state_dict[f"transformer.{layer}.lora_{x}.weight"].double().numpy() for x in "AB")
    return B @ A


@pytest.mark.parametrize("rank", [None, 3])
def test_the_fused_updates_are_the_layers_updates_below_each_other(rank: int | None) -> None:
    _, baked, _ = baked_lora(rank)
    updates = comfy_updates(to_comfyui(baked.state_dict))
    names = fused_names(1, 2)
    assert set(updates) == {"lora_unet_" + module.replace(".", "_") for module in names}
    for module, layers in names.items():
        expected = np.concatenate([dense(baked.state_dict, layer) for layer in layers])
        np.testing.assert_allclose(updates["lora_unet_" + module.replace(".", "_")], expected, rtol=1e-6, atol=1e-9)
    down = to_comfyui(baked.state_dict)["lora_unet_single_blocks_0_linear1.lora_down.weight"]
    assert len(down) == 4 * baked.rank, "ranks of a fused module add up"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fusing_keeps_the_dtype_and_every_bit(dtype: torch.dtype) -> None:
    _, baked, _ = baked_lora(2)
    lora = {key: value.to(dtype) for key, value in baked.state_dict.items()}
    fused = to_comfyui(lora)
    assert {value.dtype for key, value in fused.items() if not key.endswith(".alpha")} == {dtype}
    up = fused["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"]
    for i, x in enumerate("qkv"):
        B_OR = lora[f"transformer.transformer_blocks.0.attn.to_{x}.lora_B.weight"]
        assert torch.equal(up[i * WIDTH : (i + 1) * WIDTH, 2 * i : 2 * i + 2], B_OR)
    assert int((up != 0).sum()) == 3 * WIDTH * 2, "zeros beside the diagonal"


@pytest.mark.parametrize("layer", ["controlnet.transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q.base"])
def test_only_whole_names_of_layers_have_a_module(layer: str) -> None:
    lora = {f"transformer.{layer}.lora_{x}.weight": torch.ones(1, 1) for x in "AB"}
    with pytest.raises(ValueError, match=f"layer '{layer}' has no name in ComfyUI's style"):
        to_comfyui(lora)


def test_a_base_patched_as_comfyui_patches_it_computes_what_the_live_analogy_does() -> None:
    model, baked, query_BQ = baked_lora()
    updates = comfy_updates(to_comfyui(baked.state_dict))
    stock = tiny_transformer(0)
    before = run(stock)
    for module, layers in fused_names(1, 2).items():
        linears = [stock.get_submodule(layer) for layer in layers]
        W = torch.cat([linear.weight.data for linear in linears])  # the original code's own matrix
        W += torch.from_numpy(updates.pop("lora_unet_" + module.replace(".", "_"))).float()
        for linear, rows in zip(linears, W.split([len(linear.weight) for linear in linears]), strict=True):
            linear.weight.data.copy_(rows)
    assert not updates, "keys that ComfyUI would not find"
    with analogy(model, query_BQ):
        torch.testing.assert_close(run(stock), run(model), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(run(stock), before, atol=1e-2), "the update is too small to tell"


def flux_lora(blocks: tuple[str, ...], rank: int) -> dict[str, Tensor]:
    """A random LoRA of some blocks at FLUX.1's own width, the only one that diffusers' converter knows."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        sizes = target_sizes(FluxTransformer2DModel(guidance_embeds=True), BLOCK_LINEARS)
    assert len(sizes) == 494
    made = {}
    for name, (wide_in, wide_out) in sizes.items():
        if name.startswith(blocks):
            made[f"transformer.{name}.lora_A.weight"] = torch.randn(rank, wide_in)
            made[f"transformer.{name}.lora_B.weight"] = torch.randn(wide_out, rank)
    return made


def test_diffusers_converter_gives_every_tensor_back_at_flux_size(tmp_path: Path) -> None:
    from diffusers import FluxKontextPipeline
    from safetensors.torch import save_file

    lora = flux_lora(("transformer_blocks.0.", "transformer_blocks.18.", "single_transformer_blocks.37."), 2)
    assert len(lora) == 2 * (14 + 14 + 6)
    save_file(to_comfyui(lora), tmp_path / "comfy.safetensors")
    back = FluxKontextPipeline.lora_state_dict(tmp_path / "comfy.safetensors")
    assert back.keys() == lora.keys()
    assert all(torch.equal(back[key], value) for key, value in lora.items())


def test_every_layer_of_flux_has_a_module() -> None:
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        names = list(target_sizes(FluxTransformer2DModel(guidance_embeds=True), BLOCK_LINEARS))
    lora = {f"transformer.{name}.lora_{x}.weight": torch.ones(1, 1) for name in names for x in "AB"}
    fused = to_comfyui(lora)
    expected = {"lora_unet_" + module.replace(".", "_") for module in fused_names(19, 38)}
    assert len(expected) == 19 * 10 + 38 * 3 and len(fused) == 3 * len(expected)
    assert {key.split(".")[0] for key in fused} == expected


@pytest.mark.parametrize(
    ("target", "module", "rows"),
    [
        ("single_transformer_blocks.*.attn.to_k", "single_blocks_1_linear1", slice(WIDTH, 2 * WIDTH)),
        ("single_transformer_blocks.*.proj_mlp", "single_blocks_1_linear1", slice(3 * WIDTH, 7 * WIDTH)),
        ("transformer_blocks.*.attn.add_v_proj", "double_blocks_0_txt_attn_qkv", slice(2 * WIDTH, 3 * WIDTH)),
    ],
)
def test_a_part_of_a_fused_module_leaves_the_rest_alone(target: str, module: str, rows: slice) -> None:
    _, baked, _ = baked_lora(targets=(target,))
    fused = to_comfyui(baked.state_dict)
    updates = comfy_updates(fused)
    update = updates[f"lora_unet_{module}"]
    assert update.shape == ((7 if "linear1" in module else 3) * WIDTH, WIDTH)
    layer = next(name for name in reversed(list(baked.errors)) if re.search(r"\d+", name))
    np.testing.assert_allclose(update[rows], dense(baked.state_dict, layer), rtol=1e-6, atol=1e-9)
    assert update[rows].any() and not np.delete(update, np.r_[rows], axis=0).any()
    assert len(fused[f"lora_unet_{module}.lora_down.weight"]) == baked.rank


@pytest.mark.parametrize("rank", [2, 3])  # 3 is a multiple of q, k, v, which is when the converter looks for blocks
def test_diffusers_reads_a_part_of_a_fused_module(rank: int, tmp_path: Path) -> None:
    from diffusers import FluxKontextPipeline
    from safetensors.torch import save_file

    model, baked, _ = baked_lora(rank, targets=("transformer_blocks.*.attn.to_q", "transformer_blocks.*.attn.to_v"))
    save_file(to_comfyui(baked.state_dict), tmp_path / "comfy.safetensors")
    back = FluxKontextPipeline.lora_state_dict(tmp_path / "comfy.safetensors")
    for name in basis_layers(model):
        np.testing.assert_allclose(dense(back, name), dense(baked.state_dict, name), rtol=1e-6, atol=1e-9)
    assert not dense(back, "transformer_blocks.0.attn.to_k").any()
