"""The journal of a row function: which rows are finished, and the merge of its files into sorted results.

Each finished batch is one Arrow file, renamed into place and read by memory map. Of every row the driver holds its key
(64 bits), its place, and in the end its id: some tens of bytes, whatever the row weighs. Where nodes share a store,
each file lies there too.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lorweb.storage import Store
from pipelines._copies import Copies
from pipelines._results import Places, Results, read_batch
from pipelines._stage import WORK

FORMAT: Final = 1  # goes up when the engine would write other keys, columns or bytes for the same results
KEPT_JOURNALS: Final = 3  # per function: the present one and those of earlier parameters, so that going back is free

Keys = NDArray[np.uint64]


def as_keys(names: Sequence[str]) -> Keys:
    """Row keys, 16 hex digits each, as numbers."""
    return np.fromiter((int(name, 16) for name in names), np.uint64, len(names))


def contained(keys: Keys, ordered: Keys) -> NDArray[np.bool_]:
    """Which keys are among `ordered` ones."""
    if not len(ordered):
        return np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return np.asarray(ordered[at] == keys)


@dataclass(frozen=True)
class Finished:
    """Rows that need no work: `keys` in order, and which of them were refused."""

    keys: Keys
    refused: NDArray[np.bool_]


class RowsLost(Exception):
    """Rows that were finished are in no file of the journal: it was damaged, or somebody removed it."""

    def __init__(self, keys: Keys, refused: int) -> None:
        super().__init__(f"{len(keys)} rows are in no file of the journal")
        self.keys, self.refused = keys, refused  # those that are lost; how many of the others were refused


class Journal:
    """The files of one function with one identity."""

    def __init__(self, stage: str, name: str, schema: pa.Schema, store: Store | None = None) -> None:
        self.folder = WORK / stage / name
        self.copies = None if store is None else Copies(store, stage, name)
        self.key_field = schema.names[0]
        fields = [f.with_nullable(True) for f in schema]
        self.fields = schema
        self.schema = pa.schema([pa.field("key", pa.string()), pa.field("refused", pa.string()), *fields])

    def open(self) -> None:
        """Make the folder, clear what a kill left half written, and drop the oldest journals of this function."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)
        for partial in [*self.folder.glob("*.tmp"), *self.folder.glob("todo-*")]:
            partial.unlink(missing_ok=True)
        function = self.folder.name.rpartition("-")[0]
        siblings = [p for p in self.folder.parent.glob(f"{function}-*") if p.is_dir()]
        for old in sorted(siblings, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT_JOURNALS:]:
            shutil.rmtree(old, ignore_errors=True)
        if self.copies:
            self.copies.open(self.folder, KEPT_JOURNALS)

    def gather(self) -> None:
        """Bring what actors have finished on other nodes."""
        if self.copies:
            self.copies.pull(self.folder)

    def holds(self, path: Path) -> bool:
        """Whether a batch is finished; then its file is here."""
        return path.exists() or (self.copies is not None and self.copies.bring(path))

    def path(self, name: str) -> Path:
        """The file of a batch."""
        return self.folder / f"rows-{name}.arrow"

    def write(self, path: Path, table: pa.Table) -> None:
        """Put a batch into the journal: a reader sees all of it or nothing. In the store, too, when this returns."""
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, self.schema) as writer:
                writer.write_table(table.combine_chunks(), max_chunksize=max(1, len(table)))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        if self.copies:
            self.copies.put(path)

    def drop(self, path: Path) -> None:
        """Take a batch out of the journal."""
        path.unlink(missing_ok=True)
        if self.copies:
            self.copies.drop(path)

    def _scan(self) -> Iterator[tuple[Path, pa.Table]]:
        for path in sorted(self.folder.glob("rows-*.arrow")):
            if (table := self._whole(path)) is not None:
                yield path, table

    def _whole(self, path: Path) -> pa.Table | None:
        """A batch, from the store where it is torn here. Torn there too, it goes: its rows count as unfinished."""
        for again in (False, True):
            try:
                return read_batch(path)
            except (pa.ArrowInvalid, OSError):  # a power cut, a bad disk
                path.unlink(missing_ok=True)
            if again or not self.copies or not self.copies.bring(path):
                break
        self.drop(path)
        return None

    def finished(self) -> Finished:
        """What is done. Rows that ended in an exception are taken out, to be tried again."""
        keys: list[Keys] = []
        refused: list[NDArray[np.bool_]] = []
        for path, table in self._scan():
            torn = any(_is_error(why) for why in table["refused"].drop_null().to_pylist())
            good = self._without_errors(path, table) if torn else table
            keys.append(as_keys(good["key"].to_pylist()))
            refused.append(np.asarray(good["refused"].is_valid()))
        if not keys:
            return Finished(np.empty(0, np.uint64), np.empty(0, bool))
        unique, first = np.unique(np.concatenate(keys), return_index=True)
        return Finished(unique, np.concatenate(refused)[first])

    def _without_errors(self, path: Path, table: pa.Table) -> pa.Table:
        good = [why is None or not _is_error(why) for why in table["refused"].to_pylist()]
        kept = table.filter(pa.array(good))
        if len(kept):
            self.write(path.with_name(f"{path.stem}-good.arrow"), kept)
        self.drop(path)
        return kept

    def refused(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(row key, reject) of every refused row in the journal."""
        for _, table in self._scan():
            rows = table.select(["key", "refused"]).filter(table["refused"].is_valid()).to_pylist()
            yield from ((row["key"], json.loads(row["refused"])) for row in rows)

    def results(self, keys: Keys, pace: Mapping[str, Any]) -> Results:
        """The rows with these keys (in order), each once. Raises RowsLost: some are missing."""
        paths: list[Path] = []
        found: list[tuple[Keys, NDArray[np.int64], NDArray[np.int64], pa.Array]] = []
        rejects: dict[int, dict[str, Any]] = {}
        for path, table in self._scan():
            own = as_keys(table["key"].to_pylist())
            wanted, valid = contained(own, keys), np.asarray(table["refused"].is_null())
            for row in np.flatnonzero(wanted & ~valid).tolist():
                rejects.setdefault(int(own[row]), json.loads(table["refused"][row].as_py()))
            rows = np.flatnonzero(wanted & valid)
            ids = table[self.key_field].take(pa.array(rows)).combine_chunks()
            found.append((own[rows], np.full(len(rows), len(paths)), rows, ids))
            paths.append(path)
        kept, places = _merge(found, paths)
        lost = keys[~contained(keys, kept) & ~contained(keys, np.array(sorted(rejects), np.uint64))]
        refused = sorted((r for k, r in rejects.items() if k not in _set_of(kept, rejects)), key=lambda r: str(r["id"]))
        if len(lost):
            raise RowsLost(lost, len(refused))
        return Results(places, refused, self.fields, pace)


def _set_of(kept: Keys, rejects: Collection[int]) -> set[int]:
    """Rejects that were kept as well: another try of the row went through."""
    candidates = np.array(sorted(rejects), np.uint64)
    return set(candidates[contained(candidates, kept)].tolist())


def _merge(found: list[tuple[Keys, Any, Any, pa.Array]], paths: list[Path]) -> tuple[Keys, Places]:
    """Each key once (the first file that has it), and the places in the order of their ids."""
    if not found:
        return np.empty(0, np.uint64), Places(paths, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, object))
    keys, files, rows = (np.concatenate([part[i] for part in found]) for i in range(3))
    ids = np.asarray(pa.chunked_array([part[3] for part in found]).to_numpy(zero_copy_only=False), dtype=object)
    kept, first = np.unique(keys, return_index=True)
    order = first[np.argsort(ids[first], kind="stable")] if len(first) else first
    return kept, Places(paths, files[order], rows[order], ids[order])


def _is_error(refused: str) -> bool:
    return bool(json.loads(refused)["check"] == "error")
