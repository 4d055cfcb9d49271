"""Finished rows of a journal, merged in the order of their ids and read only when asked for."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAPPED_FILES: Final = 4096  # by one reader; about 10 KB each, and a process has 65,530 mappings
CHUNK: Final = 256  # rows held at once while merging


def read_batch(path: Path) -> pa.Table:
    """One file of a journal, memory-mapped; the mapping outlives the file's descriptor, which is closed.

    Raises ArrowInvalid or OSError where it is torn.
    """
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()


@dataclass(frozen=True)
class Places:
    """Where finished rows lie, in the order of their ids."""

    paths: list[Path]
    file: NDArray[np.int64]
    row: NDArray[np.int64]
    ids: NDArray[np.object_]


class Results:
    """Finished rows in the order of their ids, read from the journal only when asked for."""

    def __init__(
        self, places: Places, rejects: list[dict[str, Any]], schema: pa.Schema, pace: Mapping[str, Any]
    ) -> None:
        self.places, self.rejects, self.schema = places, rejects, schema
        self.pace = pace  # of the run that finished them, for the stage's metrics

    def __len__(self) -> int:
        return len(self.places.row)

    def index(self, columns: list[str]) -> list[dict[str, Any]]:
        """The named (small) columns of every kept row, in order."""
        return [row for table in self.tables(columns=columns) for row in table.to_pylist()]

    def tables(self, without: Collection[str] = (), columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Kept rows in order, in chunks; memory is that of a chunk, the files are mapped."""
        names = columns or self.schema.names
        schema = pa.schema([self.schema.field(n) for n in names])
        files: OrderedDict[int, pa.Table] = OrderedDict()
        kept = [i for i in range(len(self)) if self.places.ids[i] not in without] if without else range(len(self))
        for start in range(0, len(kept), CHUNK):
            slices = []
            for i in kept[start : start + CHUNK]:
                number = int(self.places.file[i])
                if number not in files:
                    files[number] = read_batch(self.places.paths[number]).select(names)
                    while len(files) > MAPPED_FILES:
                        files.popitem(last=False)
                files.move_to_end(number)
                slices.append(files[number].slice(int(self.places.row[i]), 1))
            yield pa.concat_tables(slices).combine_chunks().cast(schema)


def merged(parts: Sequence[Results], schema: pa.Schema) -> Results:
    """The rows of several functions in the order of their ids; rejects stay with the parts."""
    places = [part.places for part in parts]
    shifts = np.cumsum([0, *(len(own.paths) for own in places)])[:-1]
    file = np.concatenate([own.file + shift for own, shift in zip(places, shifts, strict=True)])
    row, ids = (np.concatenate([getattr(own, name) for own in places]) for name in ("row", "ids"))
    order = np.argsort(ids, kind="stable")
    paths = [path for own in places for path in own.paths]
    return Results(Places(paths, file[order], row[order], ids[order]), [], schema, {})
