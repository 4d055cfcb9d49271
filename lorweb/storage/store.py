"""A store: one prefix of any file system that fsspec speaks, and all that the nodes of a cluster share.

Keys are relative POSIX paths below the prefix. A key appears whole or not at all, whoever is killed while writing it.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from lorweb.storage.protocols import StorageError, file_system, is_uri, protocol_of, words

__all__ = ["StorageError", "Store", "is_uri"]
_ATOMIC: Final = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")  # an object appears when its upload ends
_TRIES: Final = 4
_PAUSE: Final = 0.5  # s before the second try, doubled before each further one
_FINAL: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FULL: Final = (27, 28, 122)  # EFBIG, ENOSPC, EDQUOT
T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """`uri` is a folder or an fsspec URI; `options` go to fsspec's file system and hold no secrets.

    It travels between processes: every process opens a connection of its own.
    """

    uri: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def put(self, source: Path, key: str) -> None:
        """Copy a file into the store. Raises StorageError."""

        def write(temporary: str) -> None:
            self._fs.put_file(str(source), temporary)

        self._appear(key, write)

    def write(self, key: str, content: bytes) -> None:
        """Write a small object, replacing what was there. Raises StorageError."""

        def write(temporary: str) -> None:
            self._fs.pipe_file(temporary, content)

        self._appear(key, write)

    def get(self, key: str, target: Path) -> None:
        """Copy an object to `target`, which appears whole or not at all.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: anything else.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        with _aside(target) as partial:
            self._tried(f"read {key} from", lambda: self._fs.get_file(self._at(key), str(partial)))
            partial.replace(target)

    def read(self, key: str) -> bytes:
        """A small object. Raises as `get` does."""
        found: bytes = self._tried(f"read {key} from", lambda: self._fs.cat_file(self._at(key)))
        return found

    def size(self, key: str) -> int | None:
        """Bytes of an object; None if there is none. Raises StorageError."""
        try:
            info = self._tried(f"look at {key} in", lambda: self._looked(lambda fs: fs.info(self._at(key))))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def copy(self, source: str, key: str) -> None:
        """Let an object appear under another key too; where the file system can, its bytes never leave it.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: anything else.
        """
        self._appear(key, lambda temporary: self._fs.cp_file(self._at(source), temporary))

    def names(self, prefix: str) -> dict[str, int]:
        """{name: bytes} of the objects directly below a prefix, sorted; empty where there are none."""
        found = self._entries(prefix)
        files = {name: int(entry["size"]) for name, entry in found.items() if entry["type"] == "file"}
        return {name: size for name, size in files.items() if not name.endswith(".tmp")}

    def folders(self, prefix: str) -> list[str]:
        """Names of the prefixes directly below a prefix, sorted."""
        return [name for name, entry in self._entries(prefix).items() if entry["type"] == "directory"]

    def _entries(self, prefix: str) -> dict[str, dict[str, Any]]:
        def look() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self._looked(lambda fs: fs.ls(self._at(prefix), detail=True))
            return found

        for attempt in range(1, _TRIES + 1):
            try:
                entries = self._tried(f"list {prefix} in", look)
                break
            except FileNotFoundError:  # of the prefix; or, in a folder, of a file that went away amid the listing
                if attempt == _TRIES or protocol_of(self.uri) in _ATOMIC or not self._fs.exists(self._at(prefix)):
                    return {}
        named = {entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry for entry in entries if entry["name"]}
        return {name: named[name] for name in sorted(named)}

    def find(self, key: str) -> dict[str, dict[str, Any]]:
        """{key: what the file system says of it} of an object, or of all below a prefix; empty where there are none."""
        above = self._at("").rstrip("/") + "/"
        found: dict[str, dict[str, Any]] = self._tried(
            f"list {key} in", lambda: self._looked(lambda fs: fs.find(self._at(key), detail=True))
        )
        return {name.removeprefix(above): found[name] for name in sorted(found)}

    def remove(self, key: str) -> None:
        """Delete an object, or everything below a prefix; nothing happens where there is none."""
        try:
            self._tried(f"delete {key} in", lambda: self._fs.rm(self._at(key), recursive=True))
        except FileNotFoundError:
            return

    def _looked(self, look: Callable[[Any], T]) -> T:
        """What a look says now: other processes write too, and file systems keep what they have listed."""
        self._fs.invalidate_cache()
        return look(self._fs)

    @property
    def _fs(self) -> Any:
        return file_system(self.uri, self.options)[0]

    def _at(self, key: str) -> str:
        root = file_system(self.uri, self.options)[1]
        return f"{root.rstrip('/')}/{key}" if key else root

    def _appear(self, key: str, write: Callable[[str], None]) -> None:
        """Let `write` fill a place, then let the key be it: at once where an upload is atomic, else by a rename."""
        at = self._at(key)
        fs, protocol = self._fs, protocol_of(self.uri)

        def once() -> None:
            if protocol in _ATOMIC:
                write(at)
                return
            fs.makedirs(at.rpartition("/")[0], exist_ok=True)
            temporary = f"{at}.{os.getpid()}-{time.time_ns()}.tmp"
            try:
                write(temporary)
                if protocol in ("file", "local"):
                    Path(temporary).replace(at)
                else:
                    fs.mv(temporary, at)
            except BaseException:
                with suppress(Exception):  # the fault that led here is the one to tell
                    fs.rm_file(temporary)
                raise

        try:
            self._tried(f"write {key} to", once)
        except FileNotFoundError as error:  # of what was to be read; or nobody made the bucket
            bucket = at.split("/", 1)[0]
            if protocol in _ATOMIC and not fs.exists(bucket):
                raise StorageError(f"the store {self.uri} lies in '{bucket}', which is not there; make it") from error
            raise

    def _tried(self, what: str, act: Callable[[], T]) -> T:
        for attempt in range(1, _TRIES + 1):
            try:
                return act()
            except FileNotFoundError:
                raise
            except Exception as error:  # every file system raises its own
                full = isinstance(error, OSError) and error.errno in _FULL
                if attempt == _TRIES or full or isinstance(error, _FINAL):
                    where = "on this machine" if what.startswith("read") else "there"
                    advice = f"free some space {where}" if full else "check that it can be reached and may be written"
                    raise StorageError(f"cannot {what} the store {self.uri} ({words(error)}); {advice}") from error
                time.sleep(_PAUSE * 2 ** (attempt - 1))
        raise AssertionError("unreachable")


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A temporary file beside the target, removed if it is still there at the end; readable to whom the umask says."""
    path = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")  # mkstemp's is private, and stays so
    try:
        path.touch()
        yield path
    finally:
        path.unlink(missing_ok=True)
