"""Checkpoints from our format to the official one and back, losing nothing on the way there and back.

What one format has no place for travels inside the other: the official config.yaml and dtype in our metadata, our facts
and metadata.json in a section of config.yaml. The base's weights are not loaded, only its shapes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorweb.basis import checkpoint
from lorweb.basis.files import read_safetensors, write_text
from lorweb.basis.lora_file import DTYPES, known_dtype
from lorweb.basis.official import find_weights
from lorweb.basis.official_config import read_facts, read_yaml
from lorweb.kontext.load import resolve
from lorweb.kontext.metadata import BASIS_FILE, METADATA_FILE

Format = Literal["official", "lorweb"]


@dataclass(frozen=True)
class Conversion:
    """Into which format; `config`: config.yaml of the official format where it does not lie beside the weights.

    `dtype`: of official weights; None writes back the one they came in, and float16, the format's own, for a basis that
    was never in that format.
    """

    to: Format
    base: str  # as `load_base` takes it
    config: Path | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.to not in ("official", "lorweb"):
            raise ValueError(f"--to is '{self.to}'; use 'official' or 'lorweb'")
        if self.dtype is not None and (self.to == "lorweb" or self.dtype not in DTYPES):
            raise ValueError(f"--dtype is '{self.dtype}'; use {', '.join(DTYPES)}, and only with --to official")


def convert(source: Path, out: Path, how: Conversion) -> list[Path]:
    """Write `source`, a file or its folder, into the folder `out` in the other format; returns the files written.

    Raises:
        FileNotFoundError: no weights, no config, or no base there.
        ValueError: weights that do not fit config or base.
    """
    transformer = shapes_of(how.base)
    return (
        _to_official(transformer, source, out, how) if how.to == "official" else _to_ours(transformer, source, out, how)
    )


def _to_official(transformer: Any, source: Path, out: Path, how: Conversion) -> list[Path]:
    file = source / BASIS_FILE if source.is_dir() else source
    config, facts = checkpoint.load(transformer, file)
    came_as = json.loads(facts.pop("official", "{}"))
    beside = file.with_name(METADATA_FILE)
    if beside.is_file():
        facts["metadata"] = beside.read_text(encoding="utf-8")
    dtype = known_dtype(how.dtype or came_as.get("dtype", "float16"))
    encoder = json.loads(facts["metadata"])["encoder"] if "metadata" in facts else None
    name = came_as.get("name", "lorweb")
    weights, settings = checkpoint.save_official(transformer, out, name, dtype, encoder, facts)
    if came_as:
        _keep_yaml(settings, came_as["config"], config)
    return [weights, settings]


def _keep_yaml(written: Path, text: str, config: Any) -> None:
    """Put the config.yaml that the weights came with in the place of ours, if it still says the same of the basis."""
    ours = written.read_text(encoding="utf-8")
    write_text(written, text)
    sizes = {name: getattr(config, name) for name in ("n_loras", "rank", "key_dim", "query_dim")}
    if read_yaml(written, sizes) != config:
        write_text(written, ours)


def _to_ours(transformer: Any, source: Path, out: Path, how: Conversion) -> list[Path]:
    settings = how.config or (source if source.is_dir() else source.parent) / "config.yaml"
    weights = find_weights(source)
    checkpoint.load_official(transformer, weights, settings)
    facts = read_facts(settings)
    if facts is None:  # another program wrote it: remember how
        dtypes = {tensor.dtype for tensor in read_safetensors(weights)[0].values()}
        widest = str(max(dtypes, key=lambda dtype: dtype.itemsize)).removeprefix("torch.")
        came_as = {"name": weights.stem, "dtype": widest, "config": settings.read_text(encoding="utf-8")}
        facts = {"official": json.dumps(came_as, sort_keys=True)}
    metadata = facts.pop("metadata", None)
    checkpoint.save(transformer, out / BASIS_FILE, facts)
    if metadata is None:
        return [out / BASIS_FILE]
    write_text(out / METADATA_FILE, metadata)
    return [out / BASIS_FILE, out / METADATA_FILE]


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
