"""Checkpoints of one variant in the store that nodes share, in folders of the same form as on a disk.

    <prefix>/step-00000200/tensors.safetensors, state.json
                           manifest.json          put last and removed first: without it there is no checkpoint
    <prefix>/<part>/...                           other files of the variant, such as its weights

The store is the truth. What a node has on its own disk is what was fetched, or not yet put there.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorweb.data.manifest import file_sha256
from lorweb.storage.locks import locked
from lorweb.storage.store import Store
from lorweb.training.state import (
    STATE,
    TENSORS,
    Damaged,
    Snapshot,
    checkpoint_path,
    clear_leftovers,
    retained,
    state_text,
    step_of,
)
from lorweb.training.whole_folder import MANIFEST, fault, write_whole


@dataclass(frozen=True)
class Depot:
    """The checkpoints, and the other files, of one variant."""

    store: Store
    prefix: str

    def where(self, step: int) -> str:
        """How a message calls a checkpoint."""
        return f"{self.store.uri.rstrip('/')}/{self._key(step)}"

    def steps(self) -> list[int]:
        """Steps that have a folder, whole or not, oldest first."""
        return sorted(step for name in self.store.folders(self.prefix) if (step := step_of(name)) is not None)

    def put(self, checkpoint: Path, keep: int, best: int | None = None) -> None:
        """Let a whole checkpoint of a disk be here too, then drop what is not to be kept of those up to its step.

        Raises:
            StorageError: the store does not take it; the others are whole.
        """
        step = step_of(checkpoint.name)
        assert step is not None, checkpoint
        if self.store.size(self._key(step, MANIFEST)) is not None:  # damaged, perhaps
            self.drop(step)
        for name in (TENSORS, STATE):
            self.store.put(checkpoint / name, self._key(step, name))
        self.store.put(checkpoint / MANIFEST, self._key(step, MANIFEST))
        done = [other for other in self.steps() if other <= step]
        for other in sorted(set(done) - retained(done, keep, best)):
            self.drop(other)

    def drop(self, step: int) -> None:
        """Remove a checkpoint, its manifest first, so that no torn one is ever taken for a whole one."""
        self.store.remove(self._key(step, MANIFEST))
        self.store.remove(self._key(step))

    def newest(self) -> tuple[int | None, list[Damaged]]:
        """The newest checkpoint that is whole by its sizes and its state, and newer ones that are not."""
        damaged: list[Damaged] = []
        for step in reversed(self.steps()):
            try:
                self.state(step)
                return step, damaged
            except FileNotFoundError:
                continue  # somebody died while putting it there
            except ValueError as error:
                damaged.append(Damaged(self.where(step), str(error)))
        return None, damaged

    def state(self, step: int) -> Snapshot:
        """Step, identity and facts of a checkpoint, without its tensors.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, as far as its sizes and its state say.
        """
        manifest = self.manifest(step)
        sizes = self.store.names(self._key(step))
        for name in (TENSORS, STATE):
            if sizes.get(name) != manifest[name]["bytes"]:
                raise ValueError(f"{name} has {sizes.get(name, 0)} bytes instead of {manifest[name]['bytes']}")
        content = self._read(step, STATE) or b""
        if hashlib.sha256(content).hexdigest() != manifest[STATE]["sha256"]:
            raise ValueError(f"{STATE} is not what was written (its sha256 differs)")
        found = json.loads(content)
        return Snapshot(found["step"], found["identity"], {}, found["facts"])

    def manifest(self, step: int) -> dict[str, dict[str, Any]]:
        """{file: {sha256, bytes}} of a checkpoint. Raises FileNotFoundError, or ValueError where it is damaged."""
        content = self._read(step, MANIFEST)
        if content is None:
            raise FileNotFoundError(f"there is no checkpoint {self.where(step)}")
        found = json.loads(content)
        if set(found) != {TENSORS, STATE}:
            raise ValueError(f"{MANIFEST} lists {sorted(found)}")
        return {name: {"sha256": str(what["sha256"]), "bytes": int(what["bytes"])} for name, what in found.items()}

    def fetch(self, step: int, folder: Path) -> Path:
        """Let a checkpoint lie in a folder of this node too, unless it does; one process of the node fetches it.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
            OSError: the store or the disk does not do it.
        """
        target, manifest = checkpoint_path(folder, step), self.manifest(step)

        def fill(temporary: Path) -> None:
            for name, told in manifest.items():
                self.store.get(self._key(step, name), temporary / name)
                if file_sha256(temporary / name) != told["sha256"]:
                    raise ValueError(f"{name} is not what was written (its sha256 differs)")

        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".fetch.lock"):
            same = fault(target, (TENSORS, STATE)) is None and json.loads((target / MANIFEST).read_text()) == manifest
            if not same:
                clear_leftovers(folder)
                write_whole(target, fill)
        return target

    def adopt(self, source: "Depot | Path", step: int, identity: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        """Let this variant go on from another's checkpoint: same tensors, its own identity, `facts` added.

        `source`: a depot of the same store, within which the tensors are copied, or a whole checkpoint of a disk.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
            OSError: the store does not do it.
        """
        key = self._key(step, TENSORS)
        self.drop(step)
        if isinstance(source, Depot):
            state, told = source.state(step), source.manifest(step)[TENSORS]
            self.store.copy(source._key(step, TENSORS), key)
        else:
            found = json.loads((source / STATE).read_text(encoding="utf-8"))
            state = Snapshot(found["step"], found["identity"], {}, found["facts"])
            told = json.loads((source / MANIFEST).read_text(encoding="utf-8"))[TENSORS]
            self.store.put(source / TENSORS, key)
        content = state_text(Snapshot(step, identity, {}, {**state.facts, **facts})).encode()
        self.store.write(self._key(step, STATE), content)
        own = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        self.store.write(self._key(step, MANIFEST), json.dumps({STATE: own, TENSORS: told}, indent=1).encode())

    def send(self, folder: Path, part: str, again: bool) -> None:
        """Put the files of `folder`/`part` here; those that are here only if `again`. Raises StorageError."""
        there = {} if again else self.store.names(f"{self.prefix}/{part}")
        for path in sorted((folder / part).glob("*")):
            if path.is_file() and path.suffix != ".tmp" and path.name not in there:
                self.store.put(path, f"{self.prefix}/{part}/{path.name}")

    def receive(self, part: str, folder: Path) -> None:
        """Let `folder`/`part` hold the files of a part, and no others. Raises StorageError."""
        shutil.rmtree(folder / part, ignore_errors=True)
        for name in self.store.names(f"{self.prefix}/{part}"):
            self.store.get(f"{self.prefix}/{part}/{name}", folder / part / name)

    def _key(self, step: int, name: str = "") -> str:
        return "/".join(filter(None, (self.prefix, checkpoint_path(Path(), step).name, name)))

    def _read(self, step: int, name: str) -> bytes | None:
        try:
            return self.store.read(self._key(step, name))
        except FileNotFoundError:
            return None
