"""Coefficient files: one analogy in a few kilobytes, and the algebra of `lorweb.basis.mixes` on them.

A mix means nothing without the basis it was computed on, so the file carries that basis' hash and is refused elsewhere.
Legend: L layers, N LoRAs per layer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from lorweb.basis.files import read_safetensors, write_safetensors
from lorweb.basis.mixes import mix_hash, weighted_sum
from lorweb.data.manifest import file_sha256

FORMAT: Final = "lorweb-mix"
_OWN: Final = ("format", "basis_sha256", "mix")  # what the header says besides the facts
_SHARED: Final[tuple[str, ...]] = ("base", "query_mode")  # facts that every mix of one basis has in common


@dataclass(frozen=True)
class MixFile:
    """A mix [L, N], the sha256 of the basis file it belongs to, and where it came from (JSON values)."""

    mix_LN: Tensor
    basis_sha256: str
    facts: dict[str, Any]

    @property
    def base(self) -> dict[str, str]:
        """{"base": its name} where the facts say which base the coefficients are for, else {}."""
        return {"base": str(self.facts["base"])} if "base" in self.facts else {}

    def save(self, path: Path) -> None:
        """Write it; equal content is equal bytes. Atomic. Raises OSError if it cannot be written."""
        assert self.mix_LN.ndim == 2, tuple(self.mix_LN.shape)
        taken = sorted(set(_OWN) & set(self.facts))
        assert not taken, f"facts named {taken} would hide the header's own"
        own = {"format": FORMAT, "basis_sha256": self.basis_sha256, "mix": mix_hash(self.mix_LN)}
        header = json.dumps({**self.facts, **own}, sort_keys=True)
        write_safetensors(path, {"mix": self.mix_LN.float()}, {"lorweb": header})


@dataclass(frozen=True)
class Term:
    """One coefficient file in a sum, with its weight."""

    path: Path
    weight: float


def read_mix(path: Path) -> MixFile:
    """A coefficient file, whatever basis it belongs to.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or no coefficient file: not [L, N] of real floats, both at least 1, that are finite as
            float32; or not the values whose hash it carries.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no coefficient file {path}; make one with `lorweb mix A A2 B -o FILE`")
    tensors, metadata = read_safetensors(path)
    try:
        header = json.loads(metadata.get("lorweb", "{}"))
    except ValueError as error:
        raise ValueError(f"{path}: its metadata is no JSON ({error}); compute it again with `lorweb mix`") from error
    known = isinstance(header, dict) and header.get("format") == FORMAT
    if not known or set(tensors) != {"mix"} or tensors["mix"].ndim != 2:
        raise ValueError(f"{path} is no coefficient file; make one with `lorweb mix A A2 B -o FILE`")
    mix_LN = _real(tensors["mix"], path)
    if header.get("mix") != mix_hash(mix_LN):
        raise ValueError(
            f"{path} holds the coefficients {mix_hash(mix_LN)}, but says that they are {header.get('mix')}: it was "
            "changed after it was written; compute it again with `lorweb mix`"
        )
    facts = {key: value for key, value in header.items() if key not in _OWN}
    return MixFile(mix_LN, str(header.get("basis_sha256", "")), facts)


def load_mix(path: Path, basis: Path) -> Tensor:
    """The mix [L, N] of a file, for the basis in the file `basis`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, no coefficient file, or computed on another basis.
    """
    return combine([Term(path, 1.0)], basis).mix_LN


def combine(terms: Sequence[Term], basis: Path) -> MixFile:
    """Weighted sum of coefficient files of one basis. Its facts list the parents, with their weights and own facts.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, no coefficient file or of another basis; no term, or a weight is not finite.
    """
    expected = file_sha256(basis)
    files = [read_mix(term.path) for term in terms]
    for term, file in zip(terms, files, strict=True):
        if file.basis_sha256 != expected:
            raise ValueError(
                f"{term.path} was computed on the basis {file.basis_sha256 or 'of an unknown hash'}, "
                f"but {basis} is {expected}; use that basis, or compute the mix again with `lorweb mix`"
            )
    total_LN = weighted_sum([file.mix_LN for file in files], [term.weight for term in terms])
    parents = [
        {"mix": mix_hash(file.mix_LN), "weight": term.weight, **_distinct(file.facts)}
        for term, file in zip(terms, files, strict=True)
    ]
    shared = {key: files[0].facts[key] for key in _SHARED if key in files[0].facts}
    return MixFile(total_LN, expected, {**shared, "parents": parents})


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


def _real(mix_LN: Tensor, path: Path) -> Tensor:
    """The values as float32. Raises ValueError if they are no coefficients."""
    if not mix_LN.is_floating_point() or mix_LN.numel() == 0:
        raise ValueError(
            f"{path} holds {str(mix_LN.dtype).removeprefix('torch.')} values of shape {list(mix_LN.shape)}, which are "
            "no coefficients; compute it again with `lorweb mix`"
        )
    as_float = mix_LN.float()  # first: a float64 may be finite and no float32, and a float8 has no isfinite
    if not bool(as_float.isfinite().all()):
        raise ValueError(f"{path} holds values that are not finite as float32; compute it again with `lorweb mix`")
    return as_float


def _distinct(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in _SHARED}


def _split(text: str) -> tuple[Path, float | None]:
    name, colon, tail = text.rpartition(":")
    if colon and not Path(text).exists():
        try:
            return Path(name), float(tail)
        except ValueError:
            pass
    return Path(text), None
