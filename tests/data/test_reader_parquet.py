"""Parquet shards: rows by their place, and shards that are damaged where it hurts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.pictures import SIDE, checks, encoded, noise, outcomes, pixels, reader_of, squared, write
from tests.data.world import MAX_PIXELS

IMAGE = {"image": "image", "caption": "text", "subject": None, "category": None, "licence": "rights"}
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def parquet(path: Path, **columns: object):
    return reader_of(reader="parquet", name="set", path=str(path), licence="CC0-1.0", columns=IMAGE | columns)


def table(images: list, kind: pa.DataType) -> pa.Table:
    texts = [f"row {i}" for i in range(len(images))]
    rights = [None if i % 2 else "MIT" for i in range(len(images))]
    return pa.table({"image": pa.array(images, kind), "text": texts, "rights": rights, "more": texts})


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), STRUCT])
def test_rows_of_parquet_shards_are_sources(tmp_path: Path, kind: pa.DataType) -> None:
    held = [encoded(noise(i), ("PNG", "JPEG", "WEBP")[i % 3]) for i in range(80)]
    images = [{"bytes": data, "path": None} for data in held] if kind == STRUCT else held
    (tmp_path / "deep").mkdir()
    pq.write_table(table(images[:50], kind), tmp_path / "deep/a.parquet", row_group_size=40)
    pq.write_table(table(images[50:], kind), tmp_path / "b.parquet")
    found = outcomes(parquet(tmp_path))
    assert list(found) == [f"set/b.parquet#{i}" for i in range(30)] + [f"set/deep/a.parquet#{i}" for i in range(50)]
    assert not checks(found)
    for i in (0, 39, 40, 48):
        row = found[f"set/deep/a.parquet#{i}"]
        assert (row["caption"], row["licence"]) == (f"row {i}", "MIT" if i % 2 == 0 else "CC0-1.0")
        if i % 3 == 0:
            assert pixels(row["image"]) == squared(noise(i))


def test_rows_in_any_order_are_the_same(tmp_path: Path) -> None:
    pq.write_table(
        table([encoded(noise(i)) for i in range(70)], pa.binary()), tmp_path / "a.parquet", row_group_size=50
    )
    reader = parquet(tmp_path / "a.parquet")
    places = list(reader.locations())
    forwards = [reader.read(place, SIDE, MAX_PIXELS) for place in places]
    backwards = [parquet(tmp_path).read(place, SIDE, MAX_PIXELS) for place in reversed(places)]
    assert [row["sha256"] for row in forwards] == [row["sha256"] for row in reversed(backwards)]
    assert len({row["sha256"] for row in forwards}) == 70


def test_odd_rows_are_rejects_and_leave_the_others_alone(tmp_path: Path) -> None:
    images = [
        {"bytes": encoded(noise(0)), "path": "a.png"},
        {"bytes": None, "path": "../a.png"},
        None,
        {"bytes": b"no image", "path": None},
        {"bytes": b"", "path": None},
    ]
    pq.write_table(table(images, STRUCT), tmp_path / "a.parquet")
    found = outcomes(parquet(tmp_path))
    assert list(checks(found).values()) == ["empty", "empty", "not_an_image", "empty"]
    assert found["set/a.parquet#0"]["caption"] == "row 0"
    ids = pa.table({"image": [encoded(noise(0))], "text": ["long " * 2000], "rights": ["MIT"], "number": [3]})
    pq.write_table(ids, tmp_path / "a.parquet")
    assert outcomes(parquet(tmp_path)) == {"set/a.parquet#0": "bad_caption"}
    assert outcomes(parquet(tmp_path, caption="number")) == {"set/a.parquet#0": "bad_row"}


def test_damaged_and_strange_parquet_shards(tmp_path: Path) -> None:
    good = table([encoded(noise(i)) for i in range(60)], pa.binary())
    for name in ("good", "holed", "cut"):
        pq.write_table(good, tmp_path / f"{name}.parquet", row_group_size=20, use_dictionary=False)
    pq.write_table(good.drop_columns(["text"]), tmp_path / "other.parquet")
    pq.write_table(good.set_column(0, "image", [[str(i) for i in range(60)]]), tmp_path / "words.parquet")
    write(tmp_path / "empty.parquet", b"")
    write(tmp_path / "README.md", "not a shard")
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path)
    nothing = {name: pa.nulls(10**6, kind) for name, kind in (("image", pa.binary()), ("text", pa.string()))}
    pq.write_table(pa.table(nothing | {"rights": nothing["text"]}), tmp_path / "hollow.parquet")
    whole = bytearray((tmp_path / "holed.parquet").read_bytes())
    place = pq.ParquetFile(tmp_path / "holed.parquet").metadata.row_group(1).column(0)
    whole[place.data_page_offset + 4 : place.data_page_offset + 2000] = bytes(1996)
    (tmp_path / "holed.parquet").write_bytes(whole)
    (tmp_path / "cut.parquet").write_bytes(whole[:-5000])
    found = checks(outcomes(parquet(tmp_path)))
    assert {name: found.pop(f"set/{name}.parquet") for name in ("cut", "empty", "other", "words", "gone")} == {
        "cut": "bad_shard",
        "empty": "bad_shard",
        "other": "missing_column",
        "words": "missing_column",
        "gone": "broken_link",
    }
    assert (found.pop("set/circle"), found.pop("set/hollow.parquet")) == ("linked_folder", "bad_shard")
    assert found == {f"set/holed.parquet#{i}": "unreadable" for i in range(20, 40)}


def test_mistakes_in_the_entry_of_shards_are_answered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.parquet; correct"):
        list(parquet(tmp_path).locations())
    with pytest.raises(ValueError, match="correct collect"):
        parquet(tmp_path / "no")
    pq.write_table(table([b""], pa.binary()), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="unknown column 'txt'; did you mean 'text'"):
        list(parquet(tmp_path, caption="txt").locations())
