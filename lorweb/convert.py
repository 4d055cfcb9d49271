"""Checkpoints from our format to the official one and back. The base's weights are not loaded, only its shapes."""

import json
from pathlib import Path
from typing import Any

from lorweb.basis import checkpoint
from lorweb.kontext.load import resolve


def convert(source: Path, out: Path, to: str, config: Path | None, base: str) -> list[Path]:
    """Write `source` into the folder `out` in the other format; returns the files written.

    Raises:
        FileNotFoundError: no weights, no config, or no base there.
        ValueError: unknown target, or weights that do not fit config or base.
    """
    if to not in ("official", "lorweb"):
        raise ValueError(f"--to is '{to}'; use 'official' or 'lorweb'")
    transformer = shapes_of(base)
    if to == "official":
        checkpoint.load(transformer, source / "basis.safetensors" if source.is_dir() else source)
        return list(checkpoint.save_official(transformer, out))
    settings = config or (source if source.is_dir() else source.parent) / "config.yaml"
    checkpoint.load_official(transformer, source, settings)
    checkpoint.save(transformer, out / "basis.safetensors", {"converted_from": source.name})
    return [out / "basis.safetensors"]


def shapes_of(base: str) -> Any:
    """The base's transformer without its weights: every linear is one zero, seen in the linear's shape.

    The basis is made on the device of the linears, so that they must not be on the meta device; this way the 24 GB of
    a full-size base are neither read nor held.
    """
    import torch
    from diffusers import FluxTransformer2DModel

    settings = resolve(base) / "transformer" / "config.json"
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(json.loads(settings.read_text(encoding="utf-8")))
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear):
            zero = torch.zeros(()).expand(module.weight.shape)
            module.weight = torch.nn.Parameter(zero, requires_grad=False)
    return transformer
