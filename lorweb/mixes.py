"""Coefficient files: one analogy in a few kilobytes, and their algebra.

A mix means nothing without the basis it was computed on, so the file carries that basis' hash and is refused elsewhere.
Legend: L layers, N LoRAs per layer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from lorweb.basis.files import read_safetensors, write_safetensors

FORMAT: Final = "lorweb-mix"


@dataclass(frozen=True)
class Term:
    """One coefficient file in a sum, with its weight."""

    path: Path
    weight: float


def mix_hash(mix: Tensor) -> str:
    """First 16 hex digits of the sha256 of a mix' shape and float32 values: what PNG metadata call it by."""
    values = mix.detach().cpu().float().contiguous()
    return hashlib.sha256(f"{tuple(values.shape)}|".encode() + values.numpy().tobytes()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_mix(path: Path, mix_LN: Tensor, basis: Path, facts: dict[str, Any]) -> None:
    """Write one mix [L, N] with the hash of its basis file and the caller's facts (JSON values). Atomic."""
    assert mix_LN.ndim == 2, tuple(mix_LN.shape)
    header = {"format": FORMAT, "basis_sha256": file_hash(basis), **facts}
    write_safetensors(path, {"mix": mix_LN.float()}, {"lorweb": json.dumps(header, sort_keys=True)})


def load_mix(path: Path, basis: Path) -> Tensor:
    """The mix [L, N] of a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, no coefficient file, or computed on another basis.
    """
    tensors, metadata = read_safetensors(path)
    try:
        header = json.loads(metadata.get("lorweb", "{}"))
    except ValueError as error:
        raise ValueError(f"{path}: its metadata is no JSON ({error}); compute it again with `lorweb mix`") from error
    if header.get("format") != FORMAT or set(tensors) != {"mix"} or tensors["mix"].ndim != 2:
        raise ValueError(f"{path} is no coefficient file; make one with `lorweb mix A A2 B -o FILE`")
    if header.get("basis_sha256") != file_hash(basis):
        raise ValueError(f"{path} was computed on another basis than {basis}; compute it again with `lorweb mix`")
    if not bool(tensors["mix"].isfinite().all()):
        raise ValueError(f"{path} holds values that are not finite; compute it again with `lorweb mix`")
    return tensors["mix"].float()


def parse_terms(texts: Sequence[str]) -> list[Term]:
    """`FILE` or `FILE:WEIGHT` each. Without any weight the mean is meant; with one, all need one, and they are summed.

    Raises:
        ValueError: some have a weight and some have none, or a weight is not finite.
    """
    split = [_split(text) for text in texts]
    weights = [weight for _, weight in split]
    if all(weight is None for weight in weights):
        return [Term(path, 1.0 / len(split)) for path, _ in split]
    if any(weight is None or not abs(weight) < float("inf") for weight in weights):
        raise ValueError(
            f"--mix {' --mix '.join(texts)}: give every file a finite weight as FILE:WEIGHT, or none of them"
        )
    return [Term(path, weight) for path, weight in split if weight is not None]


def combine_mixes(terms: Sequence[Term], basis: Path) -> Tensor:
    """Weighted sum [L, N] of coefficient files of one basis. Raises as `load_mix` does."""
    return torch.stack([term.weight * load_mix(term.path, basis) for term in terms]).sum(dim=0)


def _split(text: str) -> tuple[Path, float | None]:
    name, colon, tail = text.rpartition(":")
    if colon and not Path(text).exists():
        try:
            return Path(name), float(tail)
        except ValueError:
            pass
    return Path(text), None
