"""A baked LoRA under the module names of ComfyUI, which are those of Black Forest Labs' own FLUX code.

The keys are `lora_unet_<module>.lora_down.weight`, `.lora_up.weight` and `.alpha`, as in kohya's sd-scripts, which
ComfyUI and diffusers read. There q, k and v are one linear, and in a single block the first MLP linear is part of it,
so that their LoRAs become one: the A's are stacked, and the B's form a block diagonal, each at its own output rows.
Every layer has an A of its own, so ranks add up: q, k and v of rank R each fuse to rank 3R, with the MLP to 4R. The
product is the same; the file is larger by the zeros beside the diagonal.

Legend: R rank of one layer, S rank of the fused one, I in_features, O out_features.
"""

import re
from typing import Final

import torch
from torch import Tensor

PREFIX: Final = "transformer."
"""What the diffusers key style puts before a layer's name."""

_BLOCK: Final = re.compile(r"(?P<kind>single_transformer_blocks|transformer_blocks)\.(?P<number>\d+)\.(?P<linear>.+)")
_KINDS: Final = {"transformer_blocks": "double_blocks", "single_transformer_blocks": "single_blocks"}
_MODULES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "double_blocks": {
        "img_mod_lin": ("norm1.linear",),
        "txt_mod_lin": ("norm1_context.linear",),
        "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "img_attn_proj": ("attn.to_out.0",),
        "txt_attn_proj": ("attn.to_add_out",),
        "img_mlp_0": ("ff.net.0.proj",),
        "img_mlp_2": ("ff.net.2",),
        "txt_mlp_0": ("ff_context.net.0.proj",),
        "txt_mlp_2": ("ff_context.net.2",),
    },
    "single_blocks": {
        "modulation_lin": ("norm.linear",),
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "linear2": ("proj_out",),
    },
}
"""{block kind: {module of one block: the linears of diffusers that it holds, in the order of its output rows}}."""
_MLP_RATIO: Final = 4  # FLUX: the MLP is 4 times as wide as the stream, and q, k, v are as wide as it


def to_comfyui(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same LoRA, in ComfyUI's keys; alpha is the fused rank, so that the scale stays 1.

    `state_dict` is in the diffusers key style (`lorweb.basis.fold.Baked`): `transformer.<layer>.lora_A.weight` [R, I]
    and `.lora_B.weight` [O, R]. A fused module of which only some layers have a LoRA gets zeros at the rows of the
    others.

    Raises:
        ValueError: a layer outside of FLUX' blocks, for which no name is known.
    """
    layers = [key.removesuffix(".lora_A.weight") for key in state_dict if key.endswith(".lora_A.weight")]
    modules: dict[str, tuple[str, tuple[str, ...]]] = {}
    for layer in layers:
        module, block, linears = _module_of(layer.removeprefix(PREFIX))
        modules[module] = (block, linears)
    fused: dict[str, Tensor] = {}
    for module, (block, linears) in modules.items():
        parts = [_factors(state_dict, f"{PREFIX}{block}.{linear}") for linear in linears]
        A_SI, B_OS = _fuse(linears, parts)
        fused[f"{module}.lora_down.weight"] = A_SI
        fused[f"{module}.lora_up.weight"] = B_OS
        fused[f"{module}.alpha"] = torch.tensor(float(len(A_SI)))
    return fused


def _module_of(layer: str) -> tuple[str, str, tuple[str, ...]]:
    """(name of the module in ComfyUI's keys, block of the layer in diffusers, all linears that share the module)."""
    found = _BLOCK.fullmatch(layer)
    kind = _KINDS[found["kind"]] if found else ""
    for module, linears in _MODULES.get(kind, {}).items():
        if found and found["linear"] in linears:
            return f"lora_unet_{kind}_{found['number']}_{module}", f"{found['kind']}.{found['number']}", linears
    raise ValueError(
        f"layer '{layer}' has no name in ComfyUI's style, which covers the linears of FLUX' blocks; "
        "write the diffusers format, or leave the layer out of the basis' targets"
    )


def _factors(state_dict: dict[str, Tensor], layer: str) -> tuple[Tensor, Tensor] | None:
    """(A [R, I], B [O, R]) of one layer, None if it has no LoRA."""
    A_RI = state_dict.get(f"{layer}.lora_A.weight")
    return None if A_RI is None else (A_RI, state_dict[f"{layer}.lora_B.weight"])


def _fuse(linears: tuple[str, ...], parts: list[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, Tensor]:
    """A's below each other, B's on a block diagonal; zero rows where a linear has no LoRA."""
    present = [part for part in parts if part is not None]
    A_SI = torch.cat([A_RI for A_RI, _ in present])
    width = A_SI.shape[1]
    rows = [
        len(part[1]) if part is not None else width * (_MLP_RATIO if linear == "proj_mlp" else 1)
        for linear, part in zip(linears, parts, strict=True)
    ]
    B_OS = A_SI.new_zeros(sum(rows), len(A_SI))
    row = column = 0
    for part, height in zip(parts, rows, strict=True):
        if part is not None:
            A_RI, B_OR = part
            B_OS[row : row + height, column : column + len(A_RI)] = B_OR
            column += len(A_RI)
        row += height
    return A_SI, B_OS
