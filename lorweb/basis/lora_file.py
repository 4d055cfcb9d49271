"""A baked analogy as a file that other programs load as any LoRA.

Legend: R rank, I in_features, O out_features.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from lorweb.basis.comfyui import to_comfyui
from lorweb.basis.files import write_safetensors

LoraFormat = Literal["diffusers", "comfyui"]
DTYPES: Final = ("float16", "bfloat16", "float32")
_KOHYA_MODULE: Final = {"comfyui": {"ss_network_module": "networks.lora_flux"}}  # names the key style


@dataclass(frozen=True)
class Baked:
    """A plain LoRA in the PEFT/diffusers key style, and what was lost.

    `state_dict` holds `transformer.<layer>.lora_A.weight` [R, I] and `.lora_B.weight` [O, R]; alpha = rank, so its
    scale is 1. `errors` is |dW - dW_R| / |dW| in the Frobenius norm for each layer, `total_error` the same over all
    layers together; both are 0 for the exact bake in float32. `mix` is the hash of the coefficients, as
    `mix_hash` gives it.
    """

    state_dict: dict[str, Tensor]
    rank: int
    alpha: int
    errors: dict[str, float]
    total_error: float
    mix: str

    def tensors(self, lora_format: LoraFormat) -> dict[str, Tensor]:
        """The LoRA in the keys of one format.

        Raises:
            ValueError: an unknown format, or a layer that has no name in it.
        """
        return to_comfyui(self.state_dict) if known_format(lora_format) == "comfyui" else self.state_dict

    def save(self, path: Path, lora_format: LoraFormat = "diffusers", facts: Mapping[str, str] | None = None) -> None:
        """Write one safetensors file; equal content is equal bytes. Atomic.

        `diffusers` is for `load_lora_weights` and PEFT; `comfyui` for ComfyUI and what else reads kohya's keys, which
        diffusers does at FLUX' own width. The metadata hold the error report, the mix' hash and `facts` as JSON under
        `lorweb_bake`, and what LoRA managers show (with the fact `base` as the name of the model).

        Raises:
            ValueError: see `tensors`.
            OSError: the file cannot be written.
        """
        facts = facts or {}
        report = {
            **facts,
            "format": lora_format,
            "rank": self.rank,
            "alpha": self.alpha,
            "mix": self.mix,
            "total_error": self.total_error,
            "errors": self.errors,
        }
        shown = {
            "format": "pt",
            "modelspec.title": path.stem,
            "ss_base_model_version": "flux1",
            "ss_network_alpha": str(float(self.alpha)),
            "ss_network_dim": str(self.rank),
            **({"ss_sd_model_name": facts["base"]} if "base" in facts else {}),
            **_KOHYA_MODULE.get(lora_format, {}),
        }
        metadata = {**shown, "lorweb_bake": json.dumps(report, sort_keys=True)}
        write_safetensors(path, self.tensors(lora_format), dict(sorted(metadata.items())))


def known_dtype(name: str) -> torch.dtype:
    """The dtype of a name. Raises ValueError for another one than `DTYPES` lists."""
    if name not in DTYPES:
        raise ValueError(f"the dtype is '{name}'; use {', '.join(DTYPES)}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def known_format(name: str) -> LoraFormat:
    """The name, checked. Raises ValueError for another one than `LoraFormat` lists."""
    names: tuple[LoraFormat, ...] = get_args(LoraFormat)
    for known in names:
        if name == known:
            return known
    raise ValueError(f"the format is {name!r}; use {' or '.join(map(repr, names))}")
