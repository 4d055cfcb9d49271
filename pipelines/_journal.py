"""The journal of a row function: which rows are finished, and the merge of its files into sorted results."""

import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines._stage import WORK

KEPT_JOURNALS: Final = 3  # per function: the present one and those of earlier parameters, so that going back is free
OPEN_FILES: Final = 16
CHUNK: Final = 256  # rows held at once while merging


class Journal:
    """The files of one function with one identity."""

    def __init__(self, stage: str, name: str, schema: pa.Schema) -> None:
        self.folder = WORK / stage / name
        self.key_field = schema.names[0]
        fields = [f.with_nullable(True) for f in schema]
        self.fields = schema
        self.schema = pa.schema([pa.field("key", pa.string()), pa.field("refused", pa.string()), *fields])

    def open(self) -> None:
        """Make the folder, clear what a kill left half written, and drop the oldest journals of this function."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.folder)
        for partial in self.folder.glob("*.tmp"):
            partial.unlink(missing_ok=True)
        function = self.folder.name.rpartition("-")[0]
        siblings = [p for p in self.folder.parent.glob(f"{function}-*") if p.is_dir()]
        for old in sorted(siblings, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT_JOURNALS:]:
            shutil.rmtree(old, ignore_errors=True)

    def _scan(self, columns: list[str]) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        for path in sorted(self.folder.glob("rows-*.parquet")):
            try:
                yield path, pq.read_table(path, columns=columns).to_pylist()
            except (pa.ArrowInvalid, OSError):  # torn by a power cut: its rows count as unfinished
                path.unlink(missing_ok=True)

    def finished(self) -> dict[str, bool]:
        """Keys of finished rows -> was it refused. A row that ended in an exception is tried again."""
        found: dict[str, bool] = {}
        for _, rows in self._scan(["key", "refused"]):
            found.update({r["key"]: r["refused"] is not None for r in rows if not _is_error(r)})
        for path, rows in self._scan(["key", "refused"]):
            if any(_is_error(r) for r in rows):
                self._forget_errors(path)
        return found

    def _forget_errors(self, path: Path) -> None:
        table = pq.read_table(path)
        good = [not _is_error(r) for r in table.select(["key", "refused"]).to_pylist()]
        if any(good):
            partial = path.with_suffix(f".{os.getpid()}.tmp")
            pq.write_table(table.filter(pa.array(good)), partial, compression="NONE")
            partial.replace(path.with_name(f"{path.stem}-good.parquet"))
        path.unlink(missing_ok=True)

    def refused(self) -> list[dict[str, Any]]:
        """Every reject in the journal, with its row key."""
        rows = [r for _, rows in self._scan(["key", "refused"]) for r in rows if r["refused"] is not None]
        return [{"key": r["key"], **json.loads(r["refused"])} for r in rows]

    def results(self, keys: Collection[str]) -> "Results":
        """The rows with these keys, each once. A missing one is an AssertionError: the engine lost it."""
        places: dict[str, Place] = {}
        rejects: dict[str, dict[str, Any]] = {}
        for path, rows in self._scan(["key", "refused", self.key_field]):
            for number, row in enumerate(rows):
                if row["key"] not in keys:
                    continue
                if row["refused"] is None:
                    places.setdefault(row["key"], Place(row[self.key_field], path, number))
                else:
                    rejects.setdefault(row["key"], json.loads(row["refused"]))
        lost = [key for key in keys if key not in places and key not in rejects]
        assert not lost, f"{len(lost)} rows are in no journal file, for example {lost[:3]}"
        ordered = sorted(places.values(), key=lambda place: place.id)
        refused = sorted((r for k, r in rejects.items() if k not in places), key=lambda r: str(r["id"]))
        return Results(ordered, refused, self.fields)


def _is_error(row: dict[str, Any]) -> bool:
    return row["refused"] is not None and json.loads(row["refused"])["check"] == "error"


@dataclass(frozen=True)
class Place:
    """Where a finished row lies."""

    id: str
    path: Path
    row: int


class Results:
    """Finished rows in the order of their ids, read from the journal only when asked for."""

    def __init__(self, places: list[Place], rejects: list[dict[str, Any]], schema: pa.Schema) -> None:
        self.places, self.rejects, self.schema = places, rejects, schema

    def __len__(self) -> int:
        return len(self.places)

    def index(self, columns: list[str]) -> list[dict[str, Any]]:
        """The named (small) columns of every kept row, in order."""
        return [row for table in self.tables(columns=columns) for row in table.to_pylist()]

    def tables(self, without: Collection[str] = (), columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Kept rows in order, in chunks; memory is that of a chunk and a few journal files."""
        names = columns or self.schema.names
        schema = pa.schema([self.schema.field(n) for n in names])
        files: OrderedDict[Path, pa.Table] = OrderedDict()
        for chunk in _chunks(place for place in self.places if place.id not in without):
            slices = []
            for place in chunk:
                if place.path not in files:
                    files[place.path] = pq.read_table(place.path, columns=names).select(names)
                    while len(files) > OPEN_FILES:
                        files.popitem(last=False)
                files.move_to_end(place.path)
                slices.append(files[place.path].slice(place.row, 1))
            yield pa.concat_tables(slices).cast(schema)


def _chunks(places: Iterable[Place]) -> Iterator[list[Place]]:
    chunk: list[Place] = []
    for place in places:
        chunk.append(place)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
