"""Paths of a parameter file that name a place by protocol (s3://bucket/models/flux), as folders of this node.

A URI is mirrored whole into the node's cache, under the names it has there. One listing says whether the mirror still
is what lies there; a process asks once, and then keeps to what it found.

    <node folder>/fetched/<uri>/<version>/NAME      version: of names, sizes and the place's own marks of content
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lorweb.storage.hashes import node_home
from lorweb.storage.places import is_bound, locked
from lorweb.storage.store import StorageError, Store, is_uri

KEPT_VERSIONS: Final = 2
STREAMS: Final = 4  # files that are fetched at once
_MARKS: Final = ("ETag", "etag", "md5Hash", "content_settings", "LastModified", "last_modified", "updated", "mtime")
_HERE: Final = "node:"  # in place of the node's own folder, in paths that travel between nodes


@dataclass(frozen=True)
class _Found:
    """What this process knows of a path: where it is, and its version ("" of a plain path)."""

    at: Path
    version: str


_found: dict[str, _Found] = {}
_expected: dict[str, str] = {}
_options: dict[str, Mapping[str, Any]] = {}  # {protocol: options of fsspec's file system}


def fetched(path: str | Path) -> Path:
    """Where a path of the parameters can be read here: itself, or the mirror of a URI, fetched if need be.

    Raises:
        StorageError: nothing is there, it cannot be had, or it is another version than where the job was started.
    """
    name = str(path)
    if not is_uri(name):
        return _plain(name)
    if name not in _found:
        _found[name] = _mirrored(name)
    found = _found[name]
    if _expected.get(name, found.version) != found.version:
        raise StorageError(f"{name} has changed since the stage was started; run the stage again")
    return found.at


def seen() -> dict[str, str]:
    """{path: version} of what this process has asked for and found; versions of plain paths are ""."""
    return {name: found.version for name, found in _found.items()}


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
    """A path in this node's cache, as `here` of any node understands it; others are left as they are."""
    home = f"{node_home() / 'fetched'}/"
    return f"{_HERE}{path.removeprefix(home)}" if path.startswith(home) else path


def here(path: str) -> str:
    """What `portable` gave, as a path on this node."""
    return f"{node_home() / 'fetched'}/{path.removeprefix(_HERE)}" if path.startswith(_HERE) else path


def forget() -> None:
    """Look again at every path that is asked for from now on."""
    _found.clear()
    _expected.clear()


def _plain(name: str) -> Path:
    at = Path(name).expanduser()
    if at.exists():
        _found[name] = _Found(at, "")
    elif is_bound() and name in _expected:
        raise StorageError(
            f"no {name} on node {platform.node()}; give it as a URI that every node can read, or put it into the "
            "image of the nodes"
        )
    return at


def _mirrored(uri: str) -> _Found:
    parts = urlsplit(uri)
    if parts.password:
        raise StorageError(
            f"a path names {parts.scheme}://{parts.hostname} with a password, and parameters are versioned; put it "
            "into the environment (docs/storage.md)"
        )
    if parts.scheme in ("file", "local"):
        return _Found(Path(parts.netloc + parts.path), "")
    remote = _Remote.open(uri)
    listing = remote.listing()
    version = hashlib.sha256(json.dumps(sorted(listing.items())).encode()).hexdigest()[:16]
    home = node_home() / "fetched" / hashlib.sha256(uri.encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    place = home / version
    with locked(home / "lock"):
        if not place.is_dir():
            _fill(place, remote, listing)
        os.utime(place)
        versions = sorted((p for p in home.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in versions[KEPT_VERSIONS:]:
            shutil.rmtree(old, ignore_errors=True)
    return _Found(place / remote.name, version)


def _fill(place: Path, remote: "_Remote", listing: Mapping[str, tuple[int, str]]) -> None:
    """All files of a listing, in a folder that appears when it is whole."""
    partial = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=place.parent))
    try:
        with ThreadPoolExecutor(STREAMS) as pool:
            tasks = [pool.submit(remote.fetch, name, partial, mark) for name, mark in listing.items()]
            for task in tasks:
                task.result()
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@dataclass(frozen=True)
class _Remote:
    """A folder or a file of another protocol, through fsspec."""

    uri: str
    store: Store  # of the folder that holds it

    @classmethod
    def open(cls, uri: str) -> "_Remote":
        parent, _, name = uri.rstrip("/").rpartition("/")
        if not name or parent.endswith(":/") or parent.endswith("/"):
            raise StorageError(f"{uri} names no folder or file in a bucket; give its whole path")
        return cls(uri, Store(parent, dict(_options.get(urlsplit(uri).scheme, {}))))

    @property
    def name(self) -> str:
        return self.uri.rstrip("/").rpartition("/")[2]

    def listing(self) -> dict[str, tuple[int, str]]:
        """{name below the parent: (bytes, the place's mark of its content)}. Raises StorageError."""
        found = {
            name: (int(info["size"]), _mark(info))
            for name, info in self.store.find(self.name).items()
            if not name.endswith("/")
        }
        if not found:
            raise StorageError(f"nothing lies at {self.uri}; correct the path, or put the files there")
        odd = next((name for name in found if ".." in name.split("/") or name.startswith("/")), None)
        if odd is not None:
            raise StorageError(f"{self.uri} holds a name that leads out of it, '{odd}'; rename it there")
        return found

    def fetch(self, name: str, folder: Path, what: tuple[int, str]) -> None:
        """One file. Its time of change is made from its mark, so that it is the same on every node."""
        target = folder / name
        try:
            self.store.get(name, target)
        except FileNotFoundError as error:
            raise StorageError(f"{self.uri} lost '{name}' while it was fetched; run it again") from error
        if target.stat().st_size != what[0]:
            raise StorageError(f"{self.uri} changed while it was fetched: '{name}' has another size; run it again")
        seconds = int(hashlib.sha256(what[1].encode()).hexdigest()[:7], 16)
        os.utime(target, (seconds, seconds))


def _mark(info: Mapping[str, Any]) -> str:
    for key in _MARKS:
        if info.get(key):
            value = info[key]
            return str(value.get("content_md5") if isinstance(value, Mapping) else value)
    return ""
