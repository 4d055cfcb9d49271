"""Files in a store under the hash of their content, and inventories that say which of them make up a folder.

    blobs/ab/cdef...      a file, named by its SHA-256

Two runs that hold the same file hold it once; what was fetched is checked against its name.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lorweb.data.manifest import file_sha256
from lorweb.storage.hashes import Hashes
from lorweb.storage.protocols import leads_out
from lorweb.storage.store import StorageError, Store

_BLOBS: Final = "blobs"
_SHA256: Final = re.compile("[0-9a-f]{64}")
_WHO: Final = "nothing was fetched: find out who else writes into the store, then submit the stage again"


@dataclass(frozen=True)
class Inventory:
    """Which files, by path relative to a project's root (POSIX), hold which content."""

    files: Mapping[str, tuple[str, int]]  # {path: (sha256, bytes)}

    def below(self, path: str) -> dict[str, tuple[str, int]]:
        """The files at or below a path."""
        return {name: what for name, what in self.files.items() if name == path or name.startswith(f"{path}/")}

    def to_json(self) -> str:
        """Canonical: equal inventories give equal text."""
        return json.dumps({name: list(self.files[name]) for name in sorted(self.files)})

    @classmethod
    def of_json(cls, text: str) -> "Inventory":
        """Read what `to_json` wrote.

        Raises:
            StorageError: it names a file outside of the project's folder, or something that is no hash.
        """
        files = {name: (sha, int(size)) for name, (sha, size) in json.loads(text).items()}
        for name, (sha, _) in files.items():
            check_inside(name)
            if not _SHA256.fullmatch(sha):
                raise StorageError(f"the store's list of files gives '{name}' the hash '{sha}', which is none; {_WHO}")
        return cls(files)


def check_inside(name: str) -> None:
    """Raises StorageError if a path from a store leads out of the folder that it is relative to."""
    if leads_out(name):
        raise StorageError(f"the store's list of files names '{name}', outside of the project's folder; {_WHO}")


def blob_key(sha256: str) -> str:
    """Where a content lies in a store."""
    return f"{_BLOBS}/{sha256[:2]}/{sha256[2:]}"


def take_stock(root: Path, paths: Iterable[str]) -> Inventory:
    """Hash the files at or below `paths`, relative to `root`. Missing paths and half-written files are left out."""
    found: dict[str, tuple[str, int]] = {}
    with Hashes(root) as hashed:
        for path in paths:
            at = root / path
            for file in [at] if at.is_file() else sorted(at.rglob("*")):
                if file.is_file() and file.suffix != ".tmp":
                    found[file.relative_to(root).as_posix()] = (hashed(file), file.stat().st_size)
    return Inventory(found)


def shelve(store: Store, root: Path, paths: Iterable[str]) -> Inventory:
    """Put the files at or below `paths` into the store, those that it lacks. Raises StorageError."""
    inventory = take_stock(root, paths)
    for sha256, (name, size) in {sha256: (name, size) for name, (sha256, size) in inventory.files.items()}.items():
        if store.size(blob_key(sha256)) != size:
            store.put(root / name, blob_key(sha256))
    return inventory


def fetch_blob(store: Store, sha256: str, target: Path) -> None:
    """Fetch a content to `target`.

    Raises:
        StorageError: it is not in the store, or is not what its name says.
    """
    partial = target.with_name(f"{target.name}.part")
    try:
        store.get(blob_key(sha256), partial)
    except FileNotFoundError as error:
        raise StorageError(
            f"the store {store.uri} lacks {blob_key(sha256)}, which should hold {target.name}; submit the stage again, "
            "which puts back what is missing"
        ) from error
    found = file_sha256(partial)
    if found != sha256:
        partial.unlink()
        store.remove(blob_key(sha256))
        raise StorageError(
            f"{blob_key(sha256)} in the store {store.uri} was damaged (its content hashes to {found[:12]}) and was "
            "removed; submit the stage again, which puts it back"
        )
    partial.replace(target)


def restore(store: Store, inventory: Inventory, root: Path) -> int:
    """Make every file of the inventory lie below `root`; returns how many had to be fetched. Raises StorageError."""
    fetched = 0
    with Hashes(root) as hashed:
        for name, (sha256, size) in inventory.files.items():
            target = root / name
            if target.is_file() and target.stat().st_size == size and hashed(target) == sha256:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            fetch_blob(store, sha256, target)
            fetched += 1
    return fetched
