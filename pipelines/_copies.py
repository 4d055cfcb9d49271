"""Copies of a journal's files in the store: what is finished is not lost with the node or the driver that did it.

work/<stage>/<journal>/rows-*.arrow     finished batches, put there before an actor reports them
work/<stage>/<journal>/todo-*.jsonl     work that waits, fetched once per node
work/<stage>/<journal>/opened           written by each run that opens the journal

Several runs may share a store, and a journal too: each deletes its own work and what nobody has touched for long.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from lorweb.storage import StorageError, Store
from lorweb.storage.locks import locked
from lorweb.storage.protocols import changed

T = TypeVar("T")
OPENED: Final = "opened"
RESTED: Final = 24 * 3600.0  # s; a journal that changed since may be that of another run
FORGOTTEN: Final = 7 * 24 * 3600.0  # s; older work that waits is of a run that was killed
STREAMS: Final = 8  # files of a journal that travel at once: they are many and small


@dataclass(frozen=True)
class Copies:
    """Of the journal `name` of a stage. Every method raises StorageError."""

    store: Store
    stage: str
    name: str

    def open(self, folder: Path, kept: int) -> None:
        """Make folder and store hold the same batches, clear old work, and drop what rests beyond `kept` journals."""
        self.store.write(self._key(OPENED), str(time.time()).encode())  # before it looks: other runs see it in use
        self._drop_journals(kept)
        there = self.store.names(self._key(""))
        if any(name.startswith("todo-") for name in there):
            self._drop_work()
        self.pull(folder)
        _at_once(self.put, [path for path in sorted(folder.glob("rows-*.arrow")) if path.name not in there])

    def _drop_journals(self, kept: int) -> None:
        function = self.name.rpartition("-")[0]
        names = [name for name in self.store.folders(f"work/{self.stage}") if name.rpartition("-")[0] == function]
        if len(names) <= kept:
            return
        touched = {name: self._touched(f"work/{self.stage}/{name}") for name in names if name != self.name}
        for old in sorted(touched, key=lambda name: touched[name], reverse=True)[kept - 1 :]:
            if touched[old] < time.time() - RESTED:
                self.store.remove(f"work/{self.stage}/{old}")

    def _touched(self, prefix: str) -> float:
        """When anything below a prefix was last changed; never long ago where the file system does not say."""
        return max((changed(info) or time.time() for info in self.store.find(prefix).values()), default=time.time())

    def _drop_work(self) -> None:
        for key, info in self.store.find(self._key("")).items():
            when = changed(info)
            if key.startswith(self._key("todo-")) and when is not None and when < time.time() - FORGOTTEN:
                self.store.remove(key)

    def pull(self, folder: Path) -> None:
        """Bring the finished batches that the folder lacks."""

        def fetch(name: str) -> None:
            with suppress(FileNotFoundError):  # another run has dropped it since: its rows count as unfinished
                self.store.get(self._key(name), folder / name)

        there = {name: size for name, size in self.store.names(self._key("")).items() if name.startswith("rows-")}
        _at_once(fetch, [name for name, size in there.items() if _size(folder / name) != size])

    def put(self, path: Path) -> None:
        """Keep a file of the journal."""
        self.store.put(path, self._key(path.name))

    def bring(self, path: Path) -> bool:
        """Fetch a file of the journal if another node has left it here; whether there was one."""
        try:
            self.store.get(self._key(path.name), path)
        except FileNotFoundError:
            return False
        return True

    def bring_todo(self, path: Path) -> None:
        """Fetch work that waits, once for all actors of this node; what was forgotten here goes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name("todo.lock")):
            if path.exists():
                return
            for old in path.parent.glob("todo-*"):
                if old.stat().st_mtime < time.time() - FORGOTTEN:
                    old.unlink(missing_ok=True)
            if not self.bring(path):
                raise StorageError(f"the store {self.store.uri} has lost {self._key(path.name)}; run the stage again")

    def drop(self, path: Path) -> None:
        """Forget a file of the journal."""
        self.store.remove(self._key(path.name))

    def _key(self, name: str) -> str:
        return f"work/{self.stage}/{self.name}/{name}".rstrip("/")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _at_once(act: Callable[[T], None], things: Iterable[T]) -> None:
    with ThreadPoolExecutor(STREAMS) as pool:
        for task in [pool.submit(act, thing) for thing in things]:
            task.result()
