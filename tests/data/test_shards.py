"""Shards: the same rows are the same bytes, however they come; what does not fit is named."""

from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.data import shards
from lorweb.data.manifest import Manifest, fingerprint, read_manifest, write_manifest
from lorweb.data.shards import RowReader, iter_tables, read_index, read_table, write_rows, write_shards

SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("image", pa.large_binary()), pa.field("size", pa.int32())]
)


def rows(number, size=100):
    return [{"id": f"{i:06d}", "image": bytes([i % 251]) * (size + i % 7), "size": i} for i in range(number)]


def bytes_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_round_trip_in_order_whatever_the_order_given(tmp_path):
    write_rows(list(reversed(rows(700))), tmp_path, SCHEMA)
    assert read_table(tmp_path, SCHEMA).to_pylist() == rows(700)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 600), max_size=8))
def test_bytes_do_not_depend_on_how_rows_are_chunked(tmp_path_factory, cuts):
    table = pa.Table.from_pylist(rows(600, size=4000), SCHEMA)
    edges = [0, *sorted(cuts), 600]
    chunked, whole = tmp_path_factory.mktemp("chunked"), tmp_path_factory.mktemp("whole")
    write_shards((table.slice(a, b - a) for a, b in pairwise(edges)), chunked, SCHEMA)
    write_shards([table], whole, SCHEMA)
    assert bytes_of(chunked) == bytes_of(whole)


def test_row_groups_are_small_in_rows_and_bytes(tmp_path):
    write_rows(rows(1000), tmp_path / "many", SCHEMA)
    write_rows(rows(20, size=shards.GROUP_BYTES // 3), tmp_path / "large", SCHEMA)
    many = pq.ParquetFile(tmp_path / "many" / "part-00000.parquet")
    large = pq.ParquetFile(tmp_path / "large" / "part-00000.parquet")
    assert [many.metadata.row_group(i).num_rows for i in range(many.num_row_groups)] == [256, 256, 256, 232]
    assert [large.metadata.row_group(i).num_rows for i in range(large.num_row_groups)] == [2] * 10


def test_long_sets_are_cut_into_shards_and_stale_shards_go(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 200_000)
    write_rows(rows(1000, size=1000), tmp_path, SCHEMA)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) > 3 and names[:2] == ["part-00000.parquet", "part-00001.parquet"]
    write_rows(rows(10), tmp_path, SCHEMA)
    assert [p.name for p in tmp_path.iterdir()] == ["part-00000.parquet"]


def test_no_rows_still_leave_a_readable_shard(tmp_path):
    assert write_rows([], tmp_path, SCHEMA) == 0
    assert read_table(tmp_path, SCHEMA).num_rows == 0


def test_the_empty_string_is_a_key(tmp_path):
    write_rows([{"id": "b"}, {"id": ""}], tmp_path, SCHEMA)
    assert read_table(tmp_path, SCHEMA, ["id"])["id"].to_pylist() == ["", "b"]


def test_a_key_that_comes_twice_is_a_bug_and_leaves_nothing(tmp_path):
    with pytest.raises(AssertionError, match="once"):
        write_rows([*rows(3), *rows(1)], tmp_path, SCHEMA)
    assert not list(tmp_path.iterdir())


def test_a_failing_stream_leaves_no_partial_file(tmp_path):
    def broken():
        yield pa.Table.from_pylist(rows(300), SCHEMA)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_shards(broken(), tmp_path, SCHEMA)
    assert not list(tmp_path.iterdir())


def test_a_schema_mismatch_names_the_field(tmp_path):
    write_rows(rows(3), tmp_path, SCHEMA)
    other = SCHEMA.set(2, pa.field("size", pa.float64())).append(pa.field("licence", pa.string()))
    with pytest.raises(ValueError, match="field 'size' is int32, expected double"):
        read_table(tmp_path, other)
    with pytest.raises(ValueError, match="field 'licence' is missing, expected string"):
        read_table(tmp_path, other, ["id", "licence"])
    assert read_table(tmp_path, other, ["id"]).num_rows == 3


def test_missing_and_damaged_folders_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stage"):
        read_table(tmp_path, SCHEMA)
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        list(iter_tables(tmp_path, SCHEMA))


def test_index_and_reader_find_every_row_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    write_rows(rows(700, size=500), tmp_path, SCHEMA)
    index = read_index(tmp_path, SCHEMA, ["id"], digests=["image"])
    reader = RowReader(tmp_path, SCHEMA, cached=2)
    assert [reader(row["at"]) for row in reversed(index)] == list(reversed(rows(700, size=500)))
    assert len({row["image_sha256"] for row in index}) == len({bytes(r["image"]) for r in rows(700, size=500)})


def test_manifest_knows_contents_and_nothing_of_the_run(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        write_rows(rows(5), folder, SCHEMA)
        write_manifest(folder, Manifest(5, {"from": "abc"}, {"size": 3}, {"read": 1}))
    assert (one / "_manifest.json").read_bytes() == (two / "_manifest.json").read_bytes()
    write_rows(rows(6), two, SCHEMA)
    write_manifest(two, Manifest(6, {"from": "abc"}, {"size": 3}, {"read": 1}))
    assert fingerprint(one) != fingerprint(two)
    assert read_manifest(two)["rows"] == 6


def test_a_manifest_of_another_schema_version_is_refused(tmp_path):
    write_manifest(tmp_path, Manifest(0, {}, {}, {}))
    path = tmp_path / "_manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(ValueError, match="schema version 99"):
        read_manifest(tmp_path)
    with pytest.raises(FileNotFoundError, match="has not finished"):
        read_manifest(tmp_path / "nowhere")
