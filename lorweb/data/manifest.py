"""What a published folder was made from and what it holds, as one small file of content hashes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.records import SCHEMA_VERSION

MANIFEST: Final = "_manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a folder was made from. No time, no run id, no machine: equal folders have equal manifests."""

    rows: int
    inputs: Mapping[str, str]  # name -> `fingerprint` of that folder or file
    params: Mapping[str, Any]  # those that the result depends on
    code: Mapping[str, Any]  # function name -> version constant or model revision


def file_sha256(path: Path) -> str:
    """Sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `_manifest.json` beside finished shards, with the digest of every file in the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    content = {p.relative_to(folder).as_posix(): file_sha256(p) for p in files}
    facts = {
        "schema_version": SCHEMA_VERSION,
        "rows": manifest.rows,
        "inputs": dict(manifest.inputs),
        "params": dict(manifest.params),
        "code": dict(manifest.code),
        "files": content,
    }
    path = folder / MANIFEST
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published folder. Raises FileNotFoundError, or ValueError where another schema wrote it."""
    from lorweb.storage.places import local  # which hashes files as this module does

    path = local(folder / MANIFEST)
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; the stage that writes {folder} has not finished")
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if facts["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema version {facts['schema_version']}, this code reads {SCHEMA_VERSION}; run its stage"
        )
    return facts


def fingerprint(folder: Path) -> str:
    """Content of a published folder as one hash: of its files, not of how they came to be."""
    files = read_manifest(folder)["files"]
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
