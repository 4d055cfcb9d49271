"""How large a basis is on a base, before anything is loaded or fetched: counted on the meta device, to the unit.

Legend: L layers, N LoRAs per layer, D_q query width.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from lorweb.basis import BasisConfig, add_basis, count_parameters, query_dim, remove_basis, router_of, target_sizes
from lorweb.basis.encoders import PACKAGED, REDUCTION
from lorweb.basis.query import mode_of
from lorweb.config import Params

KONTEXT: Final = "black-forest-labs/FLUX.1-Kontext-dev"
"""The paper's base. Its architecture is diffusers' default for this class, so that it needs no file."""
PAPER: Final[Mapping[str, Any]] = {  # arXiv:2602.15727, 4.1; the width is that of three CLIP ViT-L/14 embeddings
    "n_loras": 32,
    "rank": 4,
    "key_dim": 128,
    "query_dim": 3 * 768,
    "heads": 1,
    "activation": "softmax",
    "reduce": "mean",
    "projection": "linear",
    "query_mode": "cat-aa'b",
}
ABLATIONS: Final[Mapping[str, Mapping[str, Any]]] = {  # the paper's tables, and our shared projection
    "paper: N32 r4": {},
    "N32 r16": {"rank": 16},
    "N8 r16": {"n_loras": 8, "rank": 16},
    "N16 r4": {"n_loras": 16},
    "N64 r4": {"n_loras": 64},
    "2x2 grid as encoder input": {"query_dim": 768, "query_mode": "caa'bb'"},
    "tanh": {"activation": "tanh"},
    "SigLIP2": {},  # its embedding is as wide as CLIP's
    "shared projection": {"projection": "shared"},
}
SINGLE_LORAS: Final = (128, 256)  # ranks of the paper's baselines
ENCODER_WIDTHS: Final = {  # (embedding, patch token), from their configurations
    "clip:openai/clip-vit-large-patch14": (768, 1024),
    "siglip2:google/siglip2-base-patch16-224": (768, 768),
}


@dataclass(frozen=True)
class BasisSize:
    """What one variant trains and stores on a base."""

    name: str
    layers: int
    basis: int  # values of all A and B
    keys: int
    projections: int
    parameters: int  # all of them
    float32_bytes: int  # of a file, without its header of a few hundred bytes per layer
    float16_bytes: int
    mix_bytes: int  # coefficients of one analogy, float32; 0 where there are none to keep


def meta_transformer(base: str) -> nn.Module:
    """The transformer of a base ("tiny", a folder, a hub id) on the meta device: shapes without weights.

    Nothing is fetched for `KONTEXT`, and one small configuration file for another hub id.

    Raises:
        FileNotFoundError: no such folder, or it has no transformer.
        ValueError: the transformer is of another class, or the hub does not give its configuration.
    """
    from diffusers import FluxTransformer2DModel

    settings = {"guidance_embeds": True} if base == KONTEXT else _transformer_config(base)
    with torch.device("meta"):
        model: nn.Module = FluxTransformer2DModel.from_config(settings)
    return model


def basis_sizes(base: str, params: Params | None, name: str) -> list[BasisSize]:
    """The parameters' own basis and baseline first (called `name`), if given; then the paper's variants on this base.

    Raises:
        FileNotFoundError, ValueError: see `meta_transformer`, `query_width` and `BasisConfig`.
    """
    transformer = meta_transformer(base)
    found = []
    if params is not None:
        own = own_config(params)
        found = [
            basis_size(name, transformer, own),
            lora_size(f"{name}: single LoRA r{own.total_rank}", transformer, own),
        ]
    for label, changes in ABLATIONS.items():
        found.append(basis_size(label, transformer, BasisConfig(**{**PAPER, **changes})))
    for rank in SINGLE_LORAS:
        config = BasisConfig(**{**PAPER, "n_loras": 1, "rank": rank})
        found.append(lora_size(f"single LoRA r{rank}", transformer, config))
    return found


def basis_size(name: str, transformer: nn.Module, config: BasisConfig) -> BasisSize:
    """Counted on a basis that is put into the transformer and taken out again; the formula has to agree.

    Raises:
        ValueError: a target pattern matches no linear layer.
    """
    report = add_basis(transformer, config, seed=0)
    router = router_of(transformer)
    keys = router.keys.numel()
    projections = sum(p.numel() for p in router.parameters()) - keys
    remove_basis(transformer)
    counted = report.trainable_parameters
    formula = count_parameters(config, target_sizes(transformer, config.targets).values())
    assert counted == formula, f"{name}: {counted} parameters on the model, {formula} by the formula"
    mix = 0 if config.internal else 4 * len(report.layers) * config.n_loras
    split = (len(report.layers), counted - keys - projections, keys, projections)
    return BasisSize(name, *split, counted, 4 * counted, 2 * counted, mix)


def lora_size(name: str, transformer: nn.Module, config: BasisConfig) -> BasisSize:
    """A plain LoRA of rank N*r on the same layers: A and B of the basis, and no router."""
    whole = basis_size(name, transformer, config)
    return BasisSize(name, whole.layers, whole.basis, 0, 0, whole.basis, 4 * whole.basis, 2 * whole.basis, 0)


def own_config(params: Params) -> BasisConfig:
    """The basis that training would make from these parameters; the encoder is not loaded."""
    from lorweb.training.variants import basis_config

    encode = params.encode
    return basis_config(params.train.basis, query_width(encode.encoder, encode.query_mode), encode.query_mode)


def query_width(encoder: str, mode: str) -> int:
    """D_q of an encoder (a name as `load_encoder` takes it) and a query mode, without its weights.

    Raises:
        ValueError: an unknown mode, an encoder whose width no file here tells, or patches it does not have.
    """
    embedding, patches = _encoder_widths(encoder)
    width = patches if mode_of(mode).levels else embedding
    if width is None:
        raise ValueError(f"query_mode '{mode}' needs patch tokens, which encoder {encoder} does not have")
    return query_dim(mode, width)


def json_tree(found: list[BasisSize], base: str, plan: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The same numbers for programs: {"base", "sizes": [BasisSize, ...], "plan": Plan.tree() or null}."""
    return {"base": base, "sizes": [asdict(size) for size in found], "plan": plan}


def write_json(tree: Mapping[str, Any], path: Path) -> None:
    """Write what `json_tree` gives. Raises OSError."""
    from lorweb.basis.files import write_text

    write_text(path, json.dumps(tree, indent=1, sort_keys=True) + "\n")


def _transformer_config(base: str) -> dict[str, Any]:
    from diffusers import FluxTransformer2DModel

    from lorweb.hub import first_line, is_hub_id
    from lorweb.kontext.load import resolve

    here = base == "tiny" or Path(base).expanduser().is_dir()
    source = str(resolve(base)) if here or not is_hub_id(base) else base
    try:
        found: dict[str, Any] = FluxTransformer2DModel.load_config(source, subfolder="transformer")
    except (OSError, ValueError) as error:
        kind = FileNotFoundError if here else ValueError
        raise kind(f"no transformer/config.json of '{base}' ({first_line(error)}); give a folder with one") from error
    if found.get("_class_name") != "FluxTransformer2DModel":
        raise ValueError(f"'{base}' has a {found.get('_class_name')}, not a FluxTransformer2DModel; give another base")
    return found


def _encoder_widths(encoder: str) -> tuple[int, int | None]:
    if encoder == PACKAGED:
        from safetensors import safe_open

        with safe_open(REDUCTION, framework="pt") as file:
            return int(file.get_slice("matrix").get_shape()[1]), None
    if encoder in ENCODER_WIDTHS:
        return ENCODER_WIDTHS[encoder]
    kind, _, folder = encoder.partition(":")
    path = Path(folder).expanduser()
    if kind not in ("clip", "siglip2") or not (path / "config.json").is_file():
        raise ValueError(
            f"no file here tells how wide the features of encoder '{encoder}' are; give the folder of a copy, or "
            f"one of {', '.join([PACKAGED, *ENCODER_WIDTHS])}"
        )
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path)
    hidden = int(getattr(config, "vision_config", config).hidden_size)
    return (int(config.projection_dim), hidden) if kind == "clip" else (hidden, hidden)
