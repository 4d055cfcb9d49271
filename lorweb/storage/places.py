"""Files where this process can read them: on a node that shares nothing, fetched from the store when first asked for.

A process that is not bound (a laptop, a shared folder) reads paths as they are. A worker is bound to an inventory: its
working directory is a mirror of the project's root, in which each file appears when `local` is asked for it.

    <node folder>/<store>/blobs/<sha256>        each content once per node
    <node folder>/<store>/mirrors/<inventory>/  links to them, under their names
"""

import hashlib
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from lorweb.storage.blobs import Inventory, fetch_blob
from lorweb.storage.hashes import NODE_FOLDER, node_home
from lorweb.storage.locks import idle, lock_of, locked, reading
from lorweb.storage.store import Store

__all__ = ["KEPT_MIRRORS", "NODE_FOLDER", "bind", "children", "is_bound", "local", "node_folder"]
KEPT_MIRRORS: Final = 8
STALE: Final = 24 * 3600  # s


@dataclass(frozen=True)
class _Bound:
    store: Store
    inventory: Inventory
    home: Path
    root: Path
    held: IO[str]  # a shared lock: while a process lives, nobody tidies its mirror away


_bound: list[_Bound] = []  # at most one: the process's own


def node_folder(store: Store) -> Path:
    """Where this node keeps what it fetched from a store."""
    return node_home() / hashlib.sha256(store.uri.encode()).hexdigest()[:16]


def bind(store: Store, inventory: Inventory) -> Path:
    """Let this process read the files of an inventory below the returned root, which becomes its working directory."""
    home = node_folder(store)
    name = hashlib.sha256(inventory.to_json().encode()).hexdigest()[:16]
    root = home / "mirrors" / name
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    with locked(home / "tidy.lock"):
        root.mkdir(parents=True, exist_ok=True)
        os.utime(root)
        held = reading(root)
        _tidy(home)
    for old in _bound:
        old.held.close()
    _bound[:] = [_Bound(store, inventory, home, root, held)]
    os.chdir(root)
    return root


def is_bound() -> bool:
    """Whether this process reads a mirror, and has nothing of the project but what an inventory names."""
    return bool(_bound)


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
        if target.exists():
            continue
        blob = own.home / "blobs" / sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(blob.with_suffix(".lock")):
            if not blob.exists():
                fetch_blob(own.store, sha256, blob)
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


def _tidy(home: Path) -> None:
    """Drop all but the newest mirrors that no process reads, and contents that no mirror names any more."""
    mirrors = [path for path in (home / "mirrors").iterdir() if path.is_dir()]
    mirrors.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    if len(mirrors) <= KEPT_MIRRORS:
        return
    for old in mirrors[KEPT_MIRRORS:]:
        with idle(lock_of(old)) as free:
            if free:
                shutil.rmtree(old, ignore_errors=True)
    for blob in (home / "blobs").iterdir():
        if blob.suffix in (".lock", ".part", ".tmp"):
            with suppress(FileNotFoundError):  # one that is being fetched may be whole by now
                killed = blob.suffix != ".lock" and blob.stat().st_mtime < time.time() - STALE
                if killed:  # whoever fetched it
                    blob.unlink()
            continue
        with idle(blob.with_suffix(".lock")) as free, suppress(FileNotFoundError):
            if free and blob.stat().st_nlink == 1:
                blob.unlink()
