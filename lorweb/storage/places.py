"""Files where this process can read them: on a node that shares nothing, fetched from the store when first asked for.

A process that is not bound (a laptop, a shared folder) reads paths as they are. A worker is bound to an inventory: its
working directory is a mirror of the project's root, in which each file appears when `local` is asked for it.

    <node folder>/<store>/blobs/<sha256>        each content once per node
    <node folder>/<store>/mirrors/<inventory>/  links to them, under their names
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lorweb.storage.blobs import Inventory, fetch_blob
from lorweb.storage.store import Store

NODE_FOLDER: Final = (
    "LORWEB_NODE_FOLDER"  # where a node keeps what it fetched; default: in the system's temporary folder
)
KEPT_MIRRORS: Final = 8


@dataclass(frozen=True)
class _Bound:
    store: Store
    inventory: Inventory
    home: Path
    root: Path


_bound: list[_Bound] = []  # at most one: the process's own


def node_folder(store: Store) -> Path:
    """Where this node keeps what it fetched from a store."""
    default = Path(tempfile.gettempdir()) / f"lorweb-{os.getuid()}"
    name = hashlib.sha256(store.uri.encode()).hexdigest()[:16]
    return Path(os.environ.get(NODE_FOLDER) or default) / name


def bind(store: Store, inventory: Inventory) -> Path:
    """Let this process read the files of an inventory below the returned root, which becomes its working directory."""
    home = node_folder(store)
    root = home / "mirrors" / hashlib.sha256(inventory.to_json().encode()).hexdigest()[:16]
    root.mkdir(parents=True, exist_ok=True)
    (home / "blobs").mkdir(exist_ok=True)
    os.utime(root)
    with locked(home / "tidy.lock"):
        _tidy(home)
    _bound[:] = [_Bound(store, inventory, home, root)]
    os.chdir(root)
    return root


def local(path: Path) -> Path:
    """The path, after what lies at or below it was fetched; unchanged in a process that is not bound.

    Raises:
        StorageError: the store cannot give it.
    """
    if not _bound:
        return path
    own = _bound[0]
    for name, (sha256, _) in own.inventory.below(_relative(path, own.root)).items():
        target = own.root / name
        if not target.exists():
            blob = own.home / "blobs" / sha256
            with locked(own.home / "blobs" / f"{sha256}.lock"):
                if not blob.exists():
                    fetch_blob(own.store, sha256, blob)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(blob, target)
    return path


def children(folder: Path, pattern: str) -> list[Path]:
    """Files directly in a folder whose names match, sorted, fetched or not. `local` makes one readable."""
    found = set(folder.glob(pattern))
    if _bound:
        own = _bound[0]
        prefix = _relative(folder, own.root)
        names = [Path(name) for name in own.inventory.below(prefix)]
        found |= {folder / name.name for name in names if name.parent.as_posix() == prefix and name.match(pattern)}
    return sorted(found)


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_absolute() and path.is_relative_to(root) else path).as_posix()


def _link(blob: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        os.link(blob, partial)
    except OSError:  # a file system without links
        shutil.copyfile(blob, partial)
    partial.replace(target)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process of this node at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _tidy(home: Path) -> None:
    """Drop all but the newest mirrors, and contents that no mirror names any more."""
    mirrors = sorted((home / "mirrors").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    if len(mirrors) <= KEPT_MIRRORS:
        return
    for old in mirrors[KEPT_MIRRORS:]:
        shutil.rmtree(old, ignore_errors=True)
    for blob in (home / "blobs").iterdir():
        if blob.stat().st_nlink == 1 and blob.suffix != ".lock":
            blob.unlink(missing_ok=True)
