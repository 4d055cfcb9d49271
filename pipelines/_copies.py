"""Copies of a journal's files in the store: what is finished is not lost with the node or the driver that did it.

work/<stage>/<journal>/rows-*.arrow     finished batches, put there before an actor reports them
work/<stage>/<journal>/todo-*.jsonl     work that waits, fetched once per node
work/<stage>/<function>.json            the journals of a function, newest first
"""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from lorweb.storage import StorageError, Store
from lorweb.storage.locks import locked

T = TypeVar("T")
STREAMS: Final = 8  # files of a journal that travel at once: they are many and small


@dataclass(frozen=True)
class Copies:
    """Of the journal `name` of a stage. Every method raises StorageError."""

    store: Store
    stage: str
    name: str

    def open(self, folder: Path, kept: int) -> None:
        """Make folder and store hold the same batches, clear old work, and drop all but the newest `kept` journals."""
        function = self.name.rpartition("-")[0]
        index = f"work/{self.stage}/{function}.json"
        try:
            known = [str(name) for name in json.loads(self.store.read(index))]
        except (FileNotFoundError, ValueError):
            known = []
        names = [self.name, *(name for name in known if name != self.name)]
        for old in names[kept:]:
            self.store.remove(f"work/{self.stage}/{old}")
        if names[:kept] != known:
            self.store.write(index, json.dumps(names[:kept]).encode())
        there = self.store.names(self._key(""))
        for name in (name for name in there if name.startswith("todo-")):
            self.store.remove(self._key(name))
        self.pull(folder)
        _at_once(self.put, [path for path in sorted(folder.glob("rows-*.arrow")) if path.name not in there])

    def pull(self, folder: Path) -> None:
        """Bring the finished batches that the folder lacks."""

        def fetch(name: str) -> None:
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
        """Fetch work that waits, once for all actors of this node; that of earlier runs goes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name("todo.lock")):
            if path.exists():
                return
            for old in path.parent.glob("todo-*"):
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
