"""Paths of a parameter file, as files and folders of this node.

A path without protocol is read where it is; a worker on a node that lacks it reads what its driver found there, through
the store. A URI (s3://bucket/models/flux) is mirrored into the node's folder. A process asks once, and then keeps to
what it found.
"""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lorweb.storage.blobs import shelve
from lorweb.storage.mirrors import mirrored, mirrors
from lorweb.storage.places import is_bound, local
from lorweb.storage.store import StorageError, Store, is_uri

_HERE: Final = "node:"  # in place of the node's own folder, in paths that travel between nodes
_CARRIED: Final = ".carried"  # of an inventory: what lies at paths outside the project


@dataclass(frozen=True)
class _Found:
    """What this process knows of a path: where it is, and its version ("" of what is no mirror)."""

    at: Path
    version: str


_found: dict[str, _Found] = {}
_expected: dict[str, str] = {}
_options: dict[str, Mapping[str, Any]] = {}  # {protocol: options of fsspec's file system}


def fetched(path: str | Path) -> Path:
    """Where a path of the parameters can be read here, fetched if need be; itself, if nobody knows what lies there.

    Raises:
        StorageError: it cannot be had, or is not what was there where the job was started.
    """
    name = str(path)
    if not is_uri(name):
        return _plain(name)
    if name not in _found:
        _found[name] = _Found(*mirrored(name, dict(_options.get(urlsplit(name).scheme, {}))))
    found = _found[name]
    if _expected.get(name, found.version) != found.version:
        raise StorageError(f"{name} has changed since the stage was started; run the stage again")
    return found.at


def seen() -> dict[str, str]:
    """{path: version} of what this process has asked for and found; versions of paths without protocol are ""."""
    return {name: found.version for name, found in _found.items()}


def carry(store: Store) -> dict[str, tuple[str, int]]:
    """Put into the store what this process found at paths without protocol: files of an inventory for workers.

    Raises:
        StorageError: the store does not take it.
    """
    files: dict[str, tuple[str, int]] = {}
    for name in (name for name in _found if not is_uri(name)):
        at = Path(name).expanduser().absolute()
        held = shelve(store, at.parent, [at.name]).files
        files |= {f"{_carried(name)}{below.removeprefix(at.name)}": what for below, what in held.items()}
    return files


def expect(paths: Mapping[str, str], store: Store | None) -> None:
    """In a worker: what its driver has `seen`, and the store whose options URIs of its protocol are opened with."""
    _expected.clear()
    _expected.update(paths)
    use_options(store)


def use_options(store: Store | None) -> None:
    """Open URIs with the options of a store, where they are of its protocol."""
    _options.clear()
    if store is not None and is_uri(store.uri):
        _options[urlsplit(store.uri).scheme] = store.options


def portable(path: str) -> str:
    """The path of a file, as `here` of any node understands it."""
    home = f"{mirrors()}/"
    return f"{_HERE}{path.removeprefix(home)}" if path.startswith(home) else path


def here(path: str) -> str:
    """What `portable` gave, as a path on this node."""
    if path.startswith(_HERE):
        return f"{mirrors()}/{path.removeprefix(_HERE)}"
    if is_bound() and not Path(path).exists():
        for root in _expected:
            if path == root or path.startswith(f"{root.rstrip('/')}/"):
                return f"{_plain(root)}{path.removeprefix(root.rstrip('/'))}"
    return path


def forget() -> None:
    """Look again at every path that is asked for from now on."""
    _found.clear()
    _expected.clear()


def _plain(name: str) -> Path:
    at = Path(name).expanduser()
    if at.exists():
        _found[name] = _Found(at, "")
        return at
    if name not in _expected:
        return at
    carried = local(_carried(name))
    if not carried.exists():
        raise StorageError(
            f"no {name} on node {platform.node()}; give it as a URI that every node can read, or put it into the "
            "image of the nodes"
        )
    return carried


def _carried(name: str) -> Path:
    return Path(_CARRIED, hashlib.sha256(name.encode()).hexdigest()[:16], Path(name).name or "folder")
