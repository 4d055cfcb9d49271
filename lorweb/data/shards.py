"""Parquet shards between stages: sorted, stably named, streamed, and the same bytes for the same rows.

The first field of a schema is the key of its rows: shards are written in its order, and a key is written once.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lorweb.storage.places import children, local

GROUP_ROWS: Final = 256
GROUP_BYTES: Final = 1 << 20  # small groups keep the reading of one row cheap: a group is decoded whole
SHARD_BYTES: Final = 256 << 20


class _Writer:
    """Cuts a stream of rows into row groups and shards by row count and raw bytes, never by how the rows arrived."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self.big = [f.name for f in schema if pa.types.is_large_binary(f.type)]
        self.waiting: list[pa.Table] = []
        self.rows = self.group_rows = self.group_bytes = self.shard_bytes = self.shards = 0
        self.last: str | None = None
        self.out: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        table = table.select(self.schema.names).cast(self.schema)
        sizes = [0] * len(table)
        for name in self.big:
            for row, size in enumerate(pc.binary_length(table[name]).to_pylist()):
                sizes[row] += size or 0
        start = 0
        for row, (key, size) in enumerate(zip(table[self.schema.names[0]].to_pylist(), sizes, strict=True)):
            assert self.last is None or key > self.last, f"rows must come sorted, once: {key!r} after {self.last!r}"
            self.last = key
            if self.group_rows and (self.group_rows == GROUP_ROWS or self.group_bytes + size > GROUP_BYTES):
                self.waiting.append(table.slice(start, row - start))
                self._flush()
                start = row
            self.group_rows += 1
            self.group_bytes += size
        self.waiting.append(table.slice(start))
        self.rows += len(table)

    def _flush(self) -> None:
        group = pa.concat_tables(self.waiting).combine_chunks()
        if self.out is not None and self.shard_bytes + self.group_bytes > SHARD_BYTES:
            self._close_shard()
        if self.out is None:
            small = [f.name for f in self.schema if f.name not in self.big]
            self.out = pq.ParquetWriter(
                self._path(".tmp"),
                self.schema,
                compression={f.name: "NONE" if f.name in self.big else "ZSTD" for f in self.schema},
                use_dictionary=[n for n in small if pa.types.is_string(self.schema.field(n).type)],
                write_statistics=small,
            )
        self.out.write_table(group, row_group_size=max(1, len(group)))
        self.shard_bytes += self.group_bytes
        self.waiting, self.group_rows, self.group_bytes = [], 0, 0

    def _path(self, suffix: str = "") -> Path:
        return self.folder / f"part-{self.shards:05d}.parquet{suffix}"

    def _close_shard(self) -> None:
        assert self.out is not None
        self.out.close()
        self._path(".tmp").replace(self._path())
        self.out, self.shard_bytes = None, 0
        self.shards += 1

    def close(self) -> None:
        if self.group_rows or not self.rows:  # no rows at all still leave one shard, so that the schema is on disk
            self.waiting = self.waiting or [self.schema.empty_table()]
            self._flush()
        if self.out is not None:
            self._close_shard()
        for stale in sorted(self.folder.glob("part-*.parquet")):
            if stale.name >= self._path().name:
                stale.unlink()


def write_shards(tables: Iterable[pa.Table], folder: Path, schema: pa.Schema) -> int:
    """Stream tables, sorted by the schema's first field, into `part-00000.parquet`, ...; returns the number of rows.

    Row groups hold at most 256 rows, shards at most 512 MB. The bytes depend on the rows alone, not on how they were
    chunked. Each shard appears whole or not at all; shards left by a longer predecessor are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(folder, schema)
    try:
        for table in tables:
            writer.add(table)
        writer.close()
    except BaseException:
        for partial in folder.glob("part-*.tmp"):
            partial.unlink()
        raise
    return writer.rows


def write_rows(rows: Sequence[Mapping[str, Any]], folder: Path, schema: pa.Schema) -> int:
    """`write_shards` for rows that fit in memory, in any order; a key that comes twice is an AssertionError."""
    key = schema.names[0]
    return write_shards([pa.Table.from_pylist(sorted(rows, key=lambda r: r[key]), schema)], folder, schema)


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder in order, fetched or not. Raises FileNotFoundError where there are none."""
    paths = children(folder, "part-*.parquet")
    if not paths:
        raise FileNotFoundError(f"no shards in {folder}; run the stage that writes it, or all with `dvc repro`")
    return paths


def _open(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pq.ParquetFile:
    """Open a shard whose wanted fields are as the schema says. Raises ValueError naming the first that differs."""
    try:
        file = pq.ParquetFile(local(path))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable Parquet file ({error}); run its stage again") from error
    found = file.schema_arrow
    for name in columns:
        wanted = schema.field(name).type
        have = found.field(name).type if name in found.names else "missing"
        if have != wanted:
            raise ValueError(f"{path}: field '{name}' is {have}, expected {wanted}; run the stage that writes it again")
    return file


def iter_tables(folder: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a folder, one row group at a time. Raises FileNotFoundError, or ValueError on a schema mismatch."""
    names = list(columns or schema.names)
    for path in shard_paths(folder):
        with _open(path, schema, names) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=names).select(names)


def read_table(folder: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a folder, only the named columns. Raises as `iter_tables` does."""
    names = list(columns or schema.names)
    empty = pa.schema([schema.field(n) for n in names]).empty_table()
    return pa.concat_tables([empty, *iter_tables(folder, schema, names)])


def read_index(
    folder: Path, schema: pa.Schema, columns: Sequence[str], digests: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The small columns of every row, `at` = its place for `RowReader`, `<name>_sha256` of the `digests` columns."""
    rows: list[dict[str, Any]] = []
    for shard, path in enumerate(shard_paths(folder)):
        with _open(path, schema, [*columns, *digests]) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[*columns, *digests])
                small = table.select(list(columns)).to_pylist()
                for name in digests:
                    for row, value in zip(small, table[name], strict=True):
                        row[f"{name}_sha256"] = hashlib.sha256(value.as_buffer()).hexdigest()
                rows += [{**row, "at": [shard, group, i]} for i, row in enumerate(small)]
    return rows


class RowReader:
    """Single rows by place, for workers: shards are opened lazily, the last few row groups stay in memory."""

    def __init__(self, folder: Path, schema: pa.Schema, columns: Sequence[str] | None = None, cached: int = 32) -> None:
        self.folder, self.schema, self.names, self.cached = folder, schema, list(columns or schema.names), cached
        self.paths: list[Path] | None = None
        self.files: dict[int, pq.ParquetFile] = {}
        self.groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()

    def __call__(self, at: Sequence[int]) -> dict[str, Any]:
        """The row at `[shard, group, row]` as `read_index` gave it."""
        shard, group, row = at
        self.paths = self.paths or shard_paths(self.folder)
        if (shard, group) not in self.groups:
            if shard not in self.files:
                self.files[shard] = _open(self.paths[shard], self.schema, self.names)
            self.groups[shard, group] = self.files[shard].read_row_group(group, columns=self.names)
            while len(self.groups) > self.cached:
                self.groups.popitem(last=False)
        self.groups.move_to_end((shard, group))
        found: dict[str, Any] = self.groups[shard, group].slice(row, 1).to_pylist()[0]
        return found
