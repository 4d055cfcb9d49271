"""Parquet shards with a column of image bytes, as data sets are published: one row, one source."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lorweb.config_errors import unknown_name
from lorweb.data.decode import decode_rgb, large_enough, square
from lorweb.data.readers.base import Facts, Location, ReaderSection, SourceRow, source_row
from lorweb.data.readers.captions import FactColumns, own_facts
from lorweb.data.readers.files import Found, found, printable, scan, shown
from lorweb.data.rejects import Rejected
from lorweb.storage.fetched import fetched

_FOLDERS: Final = ("unreadable", "linked_folder")  # faults that may hide shards
_WINDOW: Final = 32  # rows decoded at once; a group may hold more than fits into memory


class ImageColumns(FactColumns):
    """`image`: bytes of an image file, or a struct with a field `bytes`; the others are text, null where not there."""

    image: str


class ParquetConfig(ReaderSection):
    """`path`: one .parquet file, or a folder that is searched for them; `licence` of rows that name none."""

    ROWS: ClassVar = ("licence", "columns")

    reader: Literal["parquet"]
    name: str
    path: str
    licence: str
    columns: ImageColumns


class ParquetReader:
    """Rows of shards, known by shard and row number; read in order, each shard is read once.

    Raises:
        ValueError: there is no shard.
    """

    def __init__(self, cfg: ParquetConfig) -> None:
        self.cfg = cfg
        self.wanted = sorted({cfg.columns.image, *cfg.columns.names()})
        self.window: _Window | None = None
        self.path = str(fetched(cfg.path))
        if not Path(self.path).exists():
            raise ValueError(f"no '{cfg.path}' to read Parquet shards from; correct collect.readers.path")

    def locations(self) -> Iterator[Location]:
        """Every row, from the footers alone. Shards that cannot be read are one reject each.

        Raises:
            ValueError: there is no shard, or none has the columns that the parameters name.
        """
        usable, faults = 0, []
        for file in shards(self.path, ".parquet"):
            origin = f"parquet:{self.cfg.name}/{printable(file.name)}"
            try:
                groups = _groups(file, self.wanted, self.cfg.columns.image)
            except Rejected as why:
                faults.append(why)
                yield Location(origin, file.path, {"file": file.state}, (why.check, why.reason))
                continue
            usable, start = usable + 1, 0
            for group, rows in enumerate(groups):
                for row in range(rows):
                    known = {"file": file.state, "row": [group, row]}
                    yield Location(f"{origin}#{start + row}", file.path, known)
                start += rows
        if faults and not usable and all(why.check == "missing_column" for why in faults):
            raise ValueError(f"no shard of '{self.cfg.path}' has the columns that were asked for: {faults[0].reason}")

    def read(self, location: Location, size: int, max_pixels: int) -> SourceRow:
        """One row. Raises `Rejected` (see `decode_rgb`, and `unreadable`, `bad_row`, `bad_caption`, `too_small`)."""
        row = self._row(location.uri, location.known["file"], *location.known["row"])
        told = self.cfg.columns.values(row)
        image = large_enough(decode_rgb(_bytes(row[self.cfg.columns.image]), max_pixels), size)
        name = location.origin.partition(":")[2]
        facts = own_facts(told, Facts(f"row:{name}", "photo", "", self.cfg.licence))
        return source_row(location, square(image, size), facts)

    def _row(self, path: str, state: list[int], group: int, row: int) -> dict[str, Any]:
        try:
            at = (path, tuple(state), group)
            if self.window is None or self.window.at != at or row < self.window.start:
                self.window = _Window(at, _open(path, tuple(state)), self.wanted)
            return self.window.row(row)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            self.window = None
            why = " ".join(str(error).split())
            raise Rejected("unreadable", f"row group {group} of {shown(Path(path).name)} is damaged: {why}") from error


class _Window:
    """Moves over one row group, front to back, a few rows in memory."""

    def __init__(self, at: tuple[str, tuple[int, ...], int], file: pq.ParquetFile, columns: list[str]) -> None:
        self.at, self.start = at, 0
        self.batches = file.iter_batches(batch_size=_WINDOW, row_groups=[at[2]], columns=columns)
        self.rows: list[dict[str, Any]] = []

    def row(self, number: int) -> dict[str, Any]:
        while number >= self.start + len(self.rows):
            self.start += len(self.rows)
            batch = next(self.batches, None)
            if batch is None:
                raise ValueError(f"it ends after {self.start} rows")
            self.rows = batch.to_pylist()
        return self.rows[number - self.start]


@lru_cache(maxsize=4)
def _open(path: str, state: tuple[int, ...]) -> pq.ParquetFile:  # noqa: ARG001 - a replaced shard is opened again
    return pq.ParquetFile(path, memory_map=True)


def shards(path: str, suffix: str) -> Iterator[Found]:
    """The files of a folder with this suffix, or the one file. Raises ValueError where there is none."""
    if not Path(path).is_dir():
        yield found(Path(path).name, path)
        return
    number = 0
    for files in scan(Path(path)):
        for file in files:
            number += file.suffix == suffix
            if file.suffix == suffix or (file.fault is not None and file.fault[0] in _FOLDERS):
                yield file
    if not number:
        raise ValueError(f"no file in '{path}' ends in {suffix}; correct collect.readers.path")


def _groups(file: Found, wanted: list[str], image: str) -> list[int]:
    """Rows of each row group. Raises `Rejected` (checks `bad_shard`, `missing_column`, and those of a `Found`)."""
    if file.fault is not None:
        raise Rejected(*file.fault)
    try:
        with pq.ParquetFile(file.path) as shard:
            schema, facts = shard.schema_arrow, shard.metadata
            groups = [facts.row_group(i).num_rows for i in range(facts.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        why = " ".join(str(error).split())
        raise Rejected("bad_shard", f"{shown(file.name)} is no readable Parquet file: {why}") from error
    if sum(groups) > file.state[0]:
        reason = f"{shown(file.name)} claims {sum(groups)} rows in {file.state[0]} bytes"
        raise Rejected("bad_shard", reason, sum(groups), file.state[0])
    for name in wanted:
        if name not in schema.names:
            reason = f"{shown(file.name)}: {unknown_name('column', name, schema.names or ['none'])}"
            raise Rejected("missing_column", reason)
    kind = schema.field(image).type
    holds = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(holds) or pa.types.is_large_binary(holds)):
        reason = f"{shown(file.name)}: column '{image}' is {kind}; it must be binary, or a struct with a binary 'bytes'"
        raise Rejected("missing_column", reason)
    return groups


def _bytes(value: Any) -> bytes:
    held = value.get("bytes") if isinstance(value, dict) else value
    if held is None:
        where = value.get("path") if isinstance(value, dict) else None
        raise Rejected("empty", f"the row names the path {shown(where)} but holds no bytes" if where else "no image")
    return bytes(held)
