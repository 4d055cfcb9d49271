"""A place that a URI names, mirrored whole into this node's folder.

<node folder>/fetched/<uri>/<version>/NAME      version: of names, sizes and the place's own marks of content
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from lorweb.storage.hashes import node_home
from lorweb.storage.locks import idle, lock_of, locked, reading
from lorweb.storage.protocols import holds_password, leads_out
from lorweb.storage.store import StorageError, Store

KEPT_VERSIONS: Final = 2
_PARTIAL: Final = ".tmp"
STREAMS: Final = 4  # files that are fetched at once
_MARKS: Final = ("ETag", "etag", "md5Hash", "content_settings", "LastModified", "last_modified", "updated", "mtime")

_held: dict[Path, IO[str]] = {}  # of the versions that this process reads: while it lives, they stay


def mirrors() -> Path:
    """Where they lie."""
    return node_home() / "fetched"


def mirrored(uri: str, options: Mapping[str, Any]) -> tuple[Path, str]:
    """Where the mirror of a URI is, and its version ("" of a file:// path, which is read where it is).

    Raises:
        StorageError: nothing is there, or it cannot be had.
    """
    parts = urlsplit(uri)
    if holds_password(uri):
        raise StorageError(
            f"a path of protocol {parts.scheme} comes with a password, and parameters are versioned; put it into the "
            "environment (docs/storage.md)"
        )
    if parts.scheme in ("file", "local"):
        return Path(parts.netloc + parts.path), ""
    remote = _Remote.open(uri, options)
    listing = remote.listing()
    version = hashlib.sha256(json.dumps(sorted(listing.items())).encode()).hexdigest()[:16]
    home = mirrors() / hashlib.sha256(uri.encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    place = home / version
    with locked(home / "lock"):
        if not place.is_dir():
            _fill(place, remote, listing)
        os.utime(place)
        if place not in _held:
            _held[place] = reading(place)
        _tidy(home)
    return place / remote.name, version


def _tidy(home: Path) -> None:
    """Drop all but the newest versions that no process reads, and what a killed fetch left. Its lock is held."""
    folders = [path for path in home.iterdir() if path.is_dir()]
    versions = [path for path in folders if path.suffix != _PARTIAL]
    versions.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in versions[KEPT_VERSIONS:]:
        with idle(lock_of(old)) as free:
            if free:
                shutil.rmtree(old, ignore_errors=True)
    for partial in (path for path in folders if path.suffix == _PARTIAL):  # who filled it held the lock, and is dead
        shutil.rmtree(partial, ignore_errors=True)


def _fill(place: Path, remote: "_Remote", listing: Mapping[str, tuple[int, str]]) -> None:
    """All files of a listing, in a folder that appears when it is whole."""
    partial = Path(tempfile.mkdtemp(prefix=".", suffix=_PARTIAL, dir=place.parent))
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
    def open(cls, uri: str, options: Mapping[str, Any]) -> "_Remote":
        parent, _, name = uri.rstrip("/").rpartition("/")
        if not name or parent.endswith(":/") or parent.endswith("/"):
            raise StorageError(f"{uri} names no folder or file in a bucket; give its whole path")
        return cls(uri, Store(parent, options))

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
        odd = next(filter(leads_out, found), None)
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
