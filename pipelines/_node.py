"""What this machine and the others of a cluster have in common, and what an actor needs to sit down to work."""

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.config import load_params
from lorweb.storage import Inventory, Store, bind, is_uri, shelve
from lorweb.storage.fetched import carry, expect, seen, use_options
from pipelines._code import ROOT
from pipelines._upload import code_copy

_INSIDE_A_JOB: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray sets for the process of a submitted job


def store() -> Store | None:
    """What nodes share where they share nothing else, as params.yaml says; None: the project's folder."""
    if not Path("params.yaml").is_file():
        return None
    storage = load_params().storage
    if storage.uri is None:
        return None
    uri = storage.uri if is_uri(storage.uri) else str(Path(storage.uri).expanduser().absolute())
    found = Store(uri, dict(storage.options))
    use_options(found)
    return found


@contextmanager
def code_for_nodes() -> Iterator[dict[str, Any]]:
    """Arguments of `ray.init` that bring this code to nodes that share nothing. A Ray job has brought it already.

    Raises:
        ValueError: the code is too large to travel.
    """
    if store() is None or _INSIDE_A_JOB in os.environ:
        yield {}
        return
    with code_copy(ROOT) as folder:
        yield {"runtime_env": {"working_dir": str(folder)}}


class NoProject(Exception):
    """Nodes share the project's folder, and this one does not have it."""


@dataclass(frozen=True)
class Seat:
    """Where an actor works: in the project's root, or in a mirror of what its job reads, filled from a store.

    `seen`: what the driver found at paths of the parameters, so that a worker neither misses one nor finds another.
    """

    root: str
    store: Store | None
    inventory: Inventory
    seen: Mapping[str, str]

    @classmethod
    def here(cls) -> "Seat":
        """In this process, where it is."""
        return cls(str(Path.cwd()), None, Inventory({}), {})

    @classmethod
    def anywhere(cls, reads: Iterable[str]) -> "Seat":
        """Wherever Ray starts it: what lies at or below `reads`, and at paths of the parameters, is put into the store,
        where there is one and other nodes may be asked (RAY_ADDRESS). Raises StorageError.
        """
        shared, root = store() if os.environ.get("RAY_ADDRESS") else None, Path.cwd()
        files = {} if shared is None else {**shelve(shared, root, reads).files, **carry(shared)}
        return cls(str(root), shared, Inventory(files), seen())

    def take(self, there: Path) -> None:
        """Make this process work there: its working directory stands for the project's root. A shared root holds the
        folder `there`.

        Raises:
            NoProject: it does not.
        """
        if self.store is None:
            if not Path(self.root, there).is_dir():
                raise NoProject(
                    f"no {self.root} on node {platform.node()}; every node of the cluster needs the project folder at "
                    "one path, or storage.uri names what they share (docs/storage.md)"
                )
            os.chdir(self.root)
        else:
            bind(self.store, self.inventory)
        if self.seen or self.store is not None:
            expect(self.seen, self.store)
