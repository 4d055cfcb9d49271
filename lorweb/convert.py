"""Checkpoints from our format to the official one and back, losing nothing on the way there and back.

What one format has no place for travels inside the other: the official config.yaml, header and dtypes in our metadata,
our facts and metadata.json in a section of config.yaml. No base is loaded: its shapes are enough, or not even they.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import yaml
from torch import Tensor

from lorweb.basis import checkpoint
from lorweb.basis.bare import load_bare
from lorweb.basis.config import BasisConfig
from lorweb.basis.files import write_safetensors, write_text
from lorweb.basis.lora_file import DTYPES, known_dtype
from lorweb.basis.low_rank import rounded
from lorweb.basis.official import find_weights, official_state
from lorweb.basis.official_config import (
    config_of,
    our_section,
    read_facts,
    unread_settings,
    yaml_tree,
)
from lorweb.basis.yaml_tree import parse_tree, read_utf8
from lorweb.convert_facts import CameAs, look_at, parse_came_as
from lorweb.convert_metadata import metadata_text, named_in, their_name
from lorweb.kontext.metadata import BASIS_FILE, METADATA_FILE, parse_metadata, read_metadata
from lorweb.outputs import check_model_folder
from lorweb.sizes import meta_transformer

Format = Literal["official", "lorweb"]
MARK: Final = "\n# What follows is read by lorweb alone.\n"
THEIR_TEXT: Final = "config.yaml"  # fact that holds their file where ours cannot be appended to it


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
        if self.to == "official" and (self.base or self.encoder):
            raise ValueError("--base and --encoder say what an official checkpoint needs; leave them out here")
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
        ValueError: weights that do not fit config or base, a base or encoder that nothing names, or an `out` that is a
            file or holds another model.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"the output {out} is a file; give a folder")
    return _to_official(source, out, how) if how.to == "official" else _to_ours(source, out, how)


def _to_official(source: Path, out: Path, how: Conversion) -> Converted:
    file = source / BASIS_FILE if source.is_dir() else source
    basis = load_bare(file)
    config, facts = checkpoint.read_config(file)
    came_as = parse_came_as(facts.pop("official", None), file)
    encoder = None
    beside = file.with_name(METADATA_FILE)
    if beside.is_file():
        encoder = their_name(read_metadata(file.parent).encoder)
        metadata = read_utf8(beside)
        if metadata != came_as.metadata:  # else it says nothing that their files do not
            facts["metadata"] = metadata
    weights, settings = out / f"{came_as.name}.safetensors", out / "config.yaml"
    check_model_folder(out, source, (weights.name, settings.name))
    tensors, notes = _cast(official_state(basis), came_as, how.dtype)
    write_safetensors(weights, tensors, dict(came_as.header))
    text = None if came_as.config is None else _with_ours(came_as.config, config, facts)
    write_text(settings, text or _yaml(yaml_tree(config, encoder, facts)))
    return Converted([weights, settings], notes)


def _cast(tensors: dict[str, Tensor], came_as: CameAs, asked: str | None) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors in the asked dtype, or each in the one it came in; and a note where that rounds."""
    usual = known_dtype(asked or came_as.dtype)
    own = {} if asked else {key: known_dtype(name) for key, name in came_as.dtypes.items()}
    cast: dict[str, Tensor] = {}
    worst, where = 0.0, ""
    for key, value in tensors.items():
        cast[key] = rounded(value, own.get(key, usual), f"'{key}'")
        error = float((cast[key].double() - value.double()).abs().max())
        if error > worst:
            worst, where = error, key
    if not worst:
        return cast, []
    return cast, [f"rounded to {cast[where].dtype}: by at most {worst:.3g} ({where}); --dtype float32 keeps all digits"]


def _with_ours(theirs: str, config: BasisConfig, facts: dict[str, str]) -> str | None:
    """Their config.yaml with our section behind it; None where it does not say any more what the basis is."""
    tree = parse_tree(theirs, "the config.yaml it came with")
    sizes = {name: getattr(config, name) for name in ("n_loras", "rank", "key_dim", "query_dim")}
    section = our_section(config, facts or None) if facts else {}
    try:
        if config_of(tree | section, "config.yaml", sizes) != config:
            return None
    except ValueError:
        return None
    if not section:
        return theirs
    joined = f"{theirs}{MARK}{_yaml(section)}"
    try:
        appended = parse_tree(joined, "")
    except ValueError:
        appended = {}
    if appended == tree | section:
        return joined
    # in flow style or with an end mark nothing can follow: their text goes inside
    return _yaml(tree | our_section(config, {**facts, THEIR_TEXT: theirs}))


def _yaml(tree: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return text


def _to_ours(source: Path, out: Path, how: Conversion) -> Converted:
    settings = how.config or (source if source.is_dir() else source.parent) / "config.yaml"
    weights = find_weights(source)
    found = read_facts(settings)
    text, _, section = read_utf8(settings).partition(MARK)
    facts = dict(found or {})
    text = facts.pop(THEIR_TEXT, text)
    metadata = facts.pop("metadata", None)
    own = None if metadata is None else parse_metadata(metadata, f"{settings}: the fact 'metadata'")
    named = named_in(settings, own, how.base, how.encoder)
    transformer = shapes_of(named.base)
    config = checkpoint.load_official(transformer, weights, settings)
    written = metadata_text(named, config.internal) if metadata is None else metadata
    check_model_folder(out, source, (BASIS_FILE,) if written is None else (BASIS_FILE, METADATA_FILE))
    if found is None or section or THEIR_TEXT in found:  # another program wrote it: remember how
        asked = how.base is not None or how.encoder is not None  # which their files do not say
        facts["official"] = look_at(weights, text, None if asked or metadata is not None else written).text()
    checkpoint.save(transformer, out / BASIS_FILE, facts)
    paths, notes = [out / BASIS_FILE], []
    if written is not None:
        write_text(out / METADATA_FILE, written)
        paths.append(out / METADATA_FILE)
    else:
        notes.append(f"{settings} does not name a known encoder; give it as --encoder, so that apply can load it")
    unread = unread_settings(settings)
    if unread:
        notes.append(f"{settings} has settings that mean nothing here: {', '.join(unread)}")
    return Converted(paths, notes)


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
