"""Checkpoints from our format to the official one and back, losing nothing on the way there and back.

What one format has no place for travels inside the other: the official config.yaml, header and dtypes in our metadata,
our facts and metadata.json in a section of config.yaml. No base is loaded: its shapes are enough, or not even they.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor

from lorweb.basis import checkpoint
from lorweb.basis.bare import load_bare
from lorweb.basis.config import BasisConfig
from lorweb.basis.files import read_safetensors, write_safetensors, write_text
from lorweb.basis.lora_file import DTYPES, known_dtype
from lorweb.basis.official import find_weights, official_state
from lorweb.basis.official_config import our_section, read_facts, read_yaml, unread_settings, yaml_tree
from lorweb.convert_metadata import metadata_text, named_in
from lorweb.kontext.metadata import BASIS_FILE, METADATA_FILE, read_metadata
from lorweb.sizes import meta_transformer

Format = Literal["official", "lorweb"]
MARK = "\n# What follows is read by lorweb alone.\n"


@dataclass(frozen=True)
class Conversion:
    """Into which format; `config`: config.yaml of the official format where it does not lie beside the weights.

    `base` and `encoder`: names of those that an official checkpoint was trained with, where its config.yaml does not
    say. `dtype`: of official weights; None writes back what they came in, and float16, the format's own, for a basis
    that was never in that format.
    """

    to: Format
    base: str | None = None  # as `load_base` takes it
    encoder: str | None = None  # as `load_encoder` takes it
    config: Path | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.to not in ("official", "lorweb"):
            raise ValueError(f"--to is '{self.to}'; use 'official' or 'lorweb'")
        if self.dtype is not None and self.to == "lorweb":
            raise ValueError("--dtype is of official weights; our format keeps what they have, leave it out")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"--dtype is '{self.dtype}'; use {', '.join(DTYPES)}")


@dataclass(frozen=True)
class Converted:
    """What was written, and what a person should know of it, in sentences."""

    paths: list[Path]
    notes: list[str]


def convert(source: Path, out: Path, how: Conversion) -> Converted:
    """Write `source`, a file or its folder, into the folder `out` in the other format.

    Raises:
        FileNotFoundError: no weights or no config there, or no base of that name.
        ValueError: weights that do not fit config or base, a base or encoder that nothing names.
    """
    return _to_official(source, out, how) if how.to == "official" else _to_ours(source, out, how)


def _to_official(source: Path, out: Path, how: Conversion) -> Converted:
    file = source / BASIS_FILE if source.is_dir() else source
    basis = load_bare(file)
    config, facts = checkpoint.read_config(file)
    came_as: dict[str, Any] = json.loads(facts.pop("official", "{}"))
    encoder = None
    if file.with_name(METADATA_FILE).is_file():
        metadata = file.with_name(METADATA_FILE).read_text(encoding="utf-8")
        encoder = read_metadata(file.parent).encoder or None
        if metadata != came_as.get("metadata"):  # else it says nothing that their files do not
            facts["metadata"] = metadata
    weights, settings = out / f"{came_as.get('name', 'lorweb')}.safetensors", out / "config.yaml"
    tensors, notes = _cast(official_state(basis), came_as, how.dtype)
    write_safetensors(weights, tensors, came_as.get("header", {"format": "pt"}))
    kept = "config" in came_as and _still_true(came_as["config"], config, settings)
    if kept:
        section = our_section(config, facts or None) if facts else {}
        ours = MARK + yaml.safe_dump(section, sort_keys=False, allow_unicode=True) if section else ""
        write_text(settings, came_as["config"] + ours)
    else:
        tree = yaml_tree(config, encoder, facts)
        write_text(settings, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    return Converted([weights, settings], notes)


def _cast(
    tensors: dict[str, Tensor], came_as: dict[str, Any], asked: str | None
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors in the asked dtype, or each in the one it came in; and a note where that rounds."""
    usual = known_dtype(asked or came_as.get("dtype", "float16"))
    own = {} if asked else {key: known_dtype(name) for key, name in came_as.get("dtypes", {}).items()}
    cast: dict[str, Tensor] = {}
    worst, where = 0.0, ""
    for key, value in tensors.items():
        cast[key] = value.to(own.get(key, usual))
        if not bool(cast[key].isfinite().all()):
            top = float(value.abs().max())
            raise ValueError(f"'{key}' reaches {top:g}, not finite as {cast[key].dtype}; use --dtype float32")
        error = float((cast[key].double() - value.double()).abs().max())
        if error > worst:
            worst, where = error, key
    if not worst:
        return cast, []
    return cast, [f"rounded to {cast[where].dtype}: by at most {worst:.3g} ({where}); --dtype float32 keeps all digits"]


def _still_true(text: str, config: BasisConfig, place: Path) -> bool:
    """Whether their config.yaml still says of the basis what it is."""
    sizes = {name: getattr(config, name) for name in ("n_loras", "rank", "key_dim", "query_dim")}
    probe = place.with_name(".config.yaml.lorweb")
    write_text(probe, text)
    try:
        return read_yaml(probe, sizes) == config
    finally:
        probe.unlink()


def _to_ours(source: Path, out: Path, how: Conversion) -> Converted:
    settings = how.config or (source if source.is_dir() else source.parent) / "config.yaml"
    weights = find_weights(source)
    facts = read_facts(settings)
    text, _, section = settings.read_text(encoding="utf-8").partition(MARK)
    foreign = facts is None or bool(section)  # another program wrote it: remember how
    named = named_in(settings, facts or {}, how.base, how.encoder)
    transformer = shapes_of(named.base)
    config = checkpoint.load_official(transformer, weights, settings)
    facts = dict(facts or {})
    metadata = facts.pop("metadata", None)
    derived = metadata_text(named, config.internal) if metadata is None else None
    written = derived if metadata is None else metadata
    if foreign:
        facts["official"] = json.dumps(_came_as(weights, text, derived), sort_keys=True)
    checkpoint.save(transformer, out / BASIS_FILE, facts)
    paths = [out / BASIS_FILE]
    if written is not None:
        write_text(out / METADATA_FILE, written)
        paths.append(out / METADATA_FILE)
    unread = unread_settings(settings)
    notes = [f"{settings} has settings that mean nothing here: {', '.join(unread)}"] if unread else []
    return Converted(paths, [*notes, *named.notes])


def _came_as(weights: Path, config: str, metadata: str | None) -> dict[str, Any]:
    """What writing these files again needs besides the basis."""
    tensors, header = read_safetensors(weights)
    dtypes = {key: str(tensor.dtype).removeprefix("torch.") for key, tensor in tensors.items()}
    usual = max(set(dtypes.values()), key=lambda name: (known_dtype(name).itemsize, name))
    others = {key: name for key, name in dtypes.items() if name != usual}
    facts: dict[str, Any] = {"name": weights.stem, "dtype": usual, "config": config, "header": header}
    facts |= {"dtypes": others} if others else {}
    return facts | ({"metadata": metadata} if metadata is not None else {})


def shapes_of(base: str) -> Any:
    """The base's transformer without its weights: every linear is one zero, seen in the linear's shape.

    The basis is made on the device of the linears, so that they must not be on the meta device; this way the 24 GB of
    a full-size base are neither read nor held.
    """
    transformer = meta_transformer(base)
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear):
            zero = torch.zeros(()).expand(module.weight.shape)
            module.weight = torch.nn.Parameter(zero, requires_grad=False)
    return transformer
