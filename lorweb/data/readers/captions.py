"""Captions and other facts beside images: sidecar files, and one index file for a whole folder."""

import codecs
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lorweb.config_errors import unknown_name
from lorweb.data.readers.base import Facts, ReaderSection
from lorweb.data.readers.files import shown
from lorweb.data.rejects import Rejected
from lorweb.storage.fetched import fetched

CAPTION_SUFFIXES: Final = (".txt", ".json")
CAPTION_KEYS: Final = ("caption", "text", "prompt")  # of a JSON object, the first that is there
CAPTION_BYTES: Final = 4096  # of a caption
SIDECAR_BYTES: Final = 1 << 20  # of a JSON file that holds one
_BATCH: Final = 4096  # rows of an index held at once


class FactColumns(ReaderSection):
    """Columns that tell of an image, null where there is none. A licence or category in a row goes before the reader's
    own.
    """

    caption: str | None
    subject: str | None
    category: str | None
    licence: str | None

    def names(self) -> list[str]:
        """The columns that are there, each once."""
        return sorted({name for name in (self.caption, self.subject, self.category, self.licence) if name is not None})

    def values(self, row: dict[str, Any]) -> dict[str, str]:
        """What a row says, under the names of `Facts`. Raises `Rejected` (check `bad_row`) for what is no text."""
        told: dict[str, str] = {}
        for fact in ("caption", "subject", "category", "licence"):
            column = getattr(self, fact)
            value = None if column is None else row[column]
            if value is not None and not isinstance(value, str):
                raise Rejected("bad_row", f"column '{column}' holds {type(value).__name__}, not text")
            if value:
                told[fact] = checked_caption(value, column) if fact == "caption" else storable(value, column)
        return told


class IndexConfig(FactColumns):
    """`index`: a CSV file (with a header, UTF-8) or a Parquet file; `path`: its column of paths below the folder."""

    index: str
    path: str


@dataclass(frozen=True)
class IndexRow:
    """A row of an index: `path` is None, and `fault` is there, where nothing can be made of it."""

    number: int
    path: str | None
    told: dict[str, str]
    fault: tuple[str, str] | None = None


def own_facts(told: dict[str, str], default: Facts) -> Facts:
    """The facts of a row, and the reader's where the row is silent."""
    return Facts(
        **{name: told.get(name, getattr(default, name)) for name in ("subject", "category", "caption", "licence")}
    )


def sidecar_caption(data: bytes, suffix: str, name: str) -> str:
    """The caption in a sidecar file: the whole of a .txt, or one of `CAPTION_KEYS` of the object in a .json.

    Raises:
        Rejected: check `bad_caption`.
    """
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("bad_caption", f"{shown(name)} is not UTF-8: {error.reason} at byte {error.start}") from error
    if suffix != ".json":
        return checked_caption(text, name)
    try:
        held = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Rejected("bad_caption", f"{shown(name)} is not JSON: {error}") from error
    value = next((held[key] for key in CAPTION_KEYS if key in held), None) if isinstance(held, dict) else None
    if not isinstance(value, str):
        raise Rejected("bad_caption", f"{shown(name)} holds no text under any of the keys {', '.join(CAPTION_KEYS)}")
    return checked_caption(value, name)


def checked_caption(text: str, name: str) -> str:
    """A caption in one line. Raises `Rejected` (check `bad_caption`) for a long one or one that cannot be stored."""
    try:
        size = len(storable(text, name).encode())
    except Rejected as why:
        raise Rejected("bad_caption", why.reason) from why
    if size > CAPTION_BYTES:
        reason = f"the caption in {shown(name)} has {size} bytes, more than {CAPTION_BYTES}; shorten it"
        raise Rejected("bad_caption", reason, size, CAPTION_BYTES)
    return " ".join(text.split())


def storable(text: str, name: str) -> str:
    """The text itself. Raises `Rejected` (check `bad_row`) where it holds half characters, which no UTF-8 has."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Rejected("bad_row", f"the text in {shown(name)} is not UTF-8 at character {error.start}") from error
    return text


def read_index(cfg: IndexConfig) -> Iterator[IndexRow]:
    """The rows of an index, streamed. What is broken comes as rows with a fault (checks `bad_index`, `bad_row`).

    Raises:
        ValueError: no such file, or it lacks a column that the parameters name.
    """
    if not fetched(cfg.index).is_file():
        raise ValueError(f"index file '{cfg.index}' does not exist; correct collect.readers.captions.index")
    rows = _parquet_rows(cfg) if cfg.index.lower().endswith(".parquet") else _csv_rows(cfg)
    number = -1
    try:
        for number, row in enumerate(rows):
            yield _index_row(cfg, number, row)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError, MemoryError) as error:
        why = (
            "bad_index",
            f"{shown(cfg.index)} cannot be read after {number + 1} rows: {' '.join(str(error).split())}",
        )
        yield IndexRow(number + 1, None, {}, why)


def _index_row(cfg: IndexConfig, number: int, row: dict[str, Any]) -> IndexRow:
    try:
        if None in row or (None in row.values() and cfg.index.lower().endswith(".csv")):
            raise Rejected("bad_row", "it has more or fewer fields than the header")
        path = row[cfg.path]
        if not isinstance(path, str) or not path:
            raise Rejected("bad_row", f"its column '{cfg.path}' holds no path")
        return IndexRow(number, path, cfg.values(row))
    except Rejected as why:
        return IndexRow(number, None, {}, (why.check, f"row {number} of {shown(cfg.index)}: {why.reason}"))


def _wanted(cfg: IndexConfig, there: list[str]) -> list[str]:
    wanted = sorted({cfg.path, *cfg.names()})
    for name in wanted:
        if name not in there:
            raise ValueError(f"{cfg.index}: {unknown_name('column', name, there)}")
    return wanted


def _csv_rows(cfg: IndexConfig) -> Iterator[dict[str, Any]]:
    with fetched(cfg.index).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        header = list(rows.fieldnames or [])
        if not header or not all(name.isprintable() for name in header):
            raise csv.Error("it does not begin with a line of column names")
        _wanted(cfg, header)
        yield from rows


def _parquet_rows(cfg: IndexConfig) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(fetched(cfg.index)) as file:
        columns = _wanted(cfg, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            yield from batch.to_pylist()
