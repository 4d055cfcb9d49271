"""The merge of a journal: in the order of ids, each file mapped once, and no descriptor kept open."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import _results
from pipelines._results import Places, Results, read_batch

FILES, ROWS = 60, 5  # of each
SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])


@pytest.fixture
def journal(tmp_path):
    """Rows whose order of arrival is not that of their ids."""
    numbers = list(range(FILES * ROWS))
    random.Random(0).shuffle(numbers)
    paths = [tmp_path / f"{number}.arrow" for number in range(FILES)]
    for number, path in enumerate(paths):
        own = numbers[number * ROWS : (number + 1) * ROWS]
        table = pa.table([[f"r{one:05d}" for one in own], own], schema=SCHEMA)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            writer.write_table(table)
    at = np.argsort(numbers)
    ids = np.array([f"r{number:05d}" for number in range(len(numbers))], dtype=object)
    return Results(Places(paths, at // ROWS, at % ROWS, ids), [], SCHEMA, {})


def values(results):
    return [value for table in results.tables(columns=["value"]) for value in table["value"].to_pylist()]


@pytest.mark.parametrize(("room", "opened"), [(FILES, FILES), (FILES // 2, None), (1, None)])
def test_files_are_mapped_once_where_there_is_room_and_rows_are_in_order_anyway(journal, monkeypatch, room, opened):
    read = []
    monkeypatch.setattr(_results, "MAPPED_FILES", room)
    monkeypatch.setattr(_results, "read_batch", lambda path: read.append(path) or read_batch(path))
    assert values(journal) == list(range(FILES * ROWS))
    assert len(read) == opened if opened else FILES < len(read) <= FILES * ROWS


def test_a_mapped_file_keeps_no_descriptor_and_stays_readable_when_it_is_gone(journal):
    before = len(list(Path("/proc/self/fd").iterdir()))
    tables = [read_batch(path) for path in journal.places.paths]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    for path in journal.places.paths:
        path.unlink()
    assert sorted(value for table in tables for value in table["value"].to_pylist()) == list(range(FILES * ROWS))


def test_a_torn_file_is_told(journal):
    path = journal.places.paths[0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises((pa.ArrowInvalid, OSError)):
        read_batch(path)
