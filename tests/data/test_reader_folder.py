"""The folder reader: captions beside images or in an index, and files as they lie on real disks."""

import io
import os
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lorweb.data.rejects import Rejected
from tests.data.pictures import SIDE, checks, encoded, noise, outcomes, pixels, reader_of, squared, write
from tests.data.world import MAX_PIXELS

FOLDER = {"reader": "folder", "name": "mine", "licence": "CC0-1.0"}
COLUMNS = {"path": "file", "caption": "words", "subject": None, "category": None, "licence": None}


def folder(path: Path, captions: object = "sidecar"):
    return reader_of(**FOLDER, path=str(path), captions=captions)


def captions_of(found: dict) -> dict:
    return {name: row if isinstance(row, str) else row["caption"] for name, row in found.items()}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    write(tmp_path / "a.png", noise(0))
    write(tmp_path / "a.txt", "  coloured\nnoise ")
    write(tmp_path / "b/c.jpg", noise(1))
    write(tmp_path / "b/c.json", '{"text": "in JSON", "id": 3}')
    write(tmp_path / "b/d.png", noise(2))
    write(tmp_path / "b/cut.jpg", encoded(noise(3), "JPEG")[:-600])
    write(tmp_path / "b/empty.png", b"")
    write(tmp_path / "b/notes.md", "no picture")
    write(tmp_path / "b/small.png", noise(4, (4, 4)))
    write(tmp_path / "b/.hidden.png", noise(5))
    write(tmp_path / "b/lonely.txt", "no image has my name")
    return tmp_path


BAD = {
    "mine/b/cut.jpg": "truncated",
    "mine/b/empty.png": "empty",
    "mine/b/notes.md": "not_an_image",
    "mine/b/small.png": "too_small",
    "mine/b/lonely.txt": "no_image",
}


def test_good_files_come_with_their_sidecars_and_the_others_with_a_reason(mixed: Path) -> None:
    found = outcomes(folder(mixed))
    good = {"mine/a.png": "coloured noise", "mine/b/c.jpg": "in JSON", "mine/b/d.png": ""}
    assert captions_of(found) == good | BAD
    assert pixels(found["mine/a.png"]["image"]) == squared(noise(0))
    assert {found[name]["licence"] for name in good} == {"CC0-1.0"}
    assert captions_of(outcomes(folder(mixed, "none"))) == dict.fromkeys(good, "") | BAD


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", "{"),
        ("x.json", '["a caption"]'),
        ("x.json", '{"title": "other key"}'),
        ("x.json", '{"caption": 7}'),
        ("x.json", '{"caption": "\\ud800"}'),
        ("x.json", "[" * 100_000),
        ("x.txt", "long " * 1000),
        ("x.txt", b"\xff\xfe latin"),
    ],
)
def test_a_sidecar_that_says_nothing_is_a_reject(tmp_path: Path, name: str, text: str | bytes) -> None:
    write(tmp_path / "x.png", noise(0))
    write(tmp_path / name, text)
    assert outcomes(folder(tmp_path)) == {"mine/x.png": "bad_caption"}
    assert not checks(outcomes(folder(tmp_path, "none")))


INDEX = [("a.png", "first", "s1"), ("b/c.jpg", "second, with comma", None), ("gone.png", "third", "s3")]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_index_names_the_images_and_tells_of_them(mixed: Path, tmp_path_factory, kind: str) -> None:
    path = tmp_path_factory.mktemp("index") / f"index.{kind}"
    if kind == "csv":
        lines = ["file,words,who", *(f'{f},"{w}",{s or ""}' for f, w, s in INDEX), "short", "/etc/passwd,x,y"]
        write(path, "\ufeff" + "\r\n".join([*lines, "b/../../../up.png,x,y", "b/notes.md,x,y", "a.png,again,y"]))
    else:
        odd = ["/etc/passwd", "b/../../../up.png", "b/notes.md", "a\0", "b"]
        rows = [*INDEX, (None, "w", "y"), *((name, "x", "y") for name in odd)]
        pq.write_table(pa.table(dict(zip(("file", "words", "who"), zip(*rows, strict=True), strict=True))), path)
    reader = folder(mixed, {"index": str(path), **COLUMNS, "subject": "who"})
    if kind == "csv":
        places = list(reader.locations())
        assert [p.origin for p in places].count("folder:mine/a.png") == 2  # collect names the second a repetition
        assert places[-1].origin == "folder:mine/a.png"
        return
    found = outcomes(reader)
    first, second = found["mine/a.png"], found["mine/b/c.jpg"]
    assert (first["caption"], first["subject"]) == ("first", "s1")
    assert (second["caption"], second["subject"]) == ("second, with comma", "file:mine/b/c.jpg")
    assert checks(found) == {
        "mine/gone.png": "missing",
        "mine/row 3 of the index": "bad_row",
        "mine//etc/passwd": "outside",
        "mine/b/../../../up.png": "outside",
        "mine/b/notes.md": "not_an_image",
        "mine/a\\x00": "missing",
        "mine/b": "not_a_file",
    }


@pytest.mark.parametrize("data", [b"", b"PAR1 no", b"\x00\x01,file\n", b'file,words\na.png,"open', b"\xff\xfe\n"])
@pytest.mark.parametrize("name", ["index.csv", "index.parquet"])
def test_a_broken_index_is_one_reject(mixed: Path, name: str, data: bytes) -> None:
    path = write(mixed / name, data)
    try:
        found = checks(outcomes(folder(mixed, {"index": str(path), **COLUMNS})))
    except ValueError as error:  # a line of text is a header, if not the right one
        assert data == b"PAR1 no" and name == "index.csv"
        assert "unknown column 'file'; did you mean 'PAR1 no'?" in str(error)
    else:
        assert list(found.values()) == ["bad_index"]


def test_mistakes_in_the_entry_are_answered(mixed: Path) -> None:
    path = write(mixed / "index.csv", "files,words\na.png,x\n")
    with pytest.raises(ValueError, match="unknown column 'file'; did you mean 'files'"):
        list(folder(mixed, {"index": str(path), **COLUMNS}).locations())
    with pytest.raises(ValueError, match="does not exist; correct"):
        list(folder(mixed, {"index": str(mixed / "no.csv"), **COLUMNS}).locations())
    with pytest.raises(ValueError, match="does not exist; correct"):
        folder(mixed / "no")
    with pytest.raises(ValidationError, match="unknown word 'sidecars'; did you mean 'sidecar'"):
        folder(mixed, "sidecars")


def test_what_is_no_plain_file_is_named_and_nothing_waits(tmp_path: Path) -> None:
    write(tmp_path / "good.png", noise(0))
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "good.png")
    write(tmp_path / "dir.png/inner.png", noise(1))
    found = outcomes(folder(tmp_path))
    assert checks(found) == {
        "mine/pipe.png": "not_a_file",
        "mine/s.png": "not_a_file",
        "mine/loop.png": "broken_link",
        "mine/dangling.png": "broken_link",
        "mine/circle": "linked_folder",
        "mine/dir.png": "not_a_file",
    }
    assert set(found) - set(checks(found)) == {"mine/good.png", "mine/link.png", "mine/dir.png/inner.png"}


@pytest.mark.parametrize(("harm", "check"), [("gone", "missing"), ("pipe", "not_a_file"), ("folder", "not_a_file")])
def test_a_file_that_changed_since_it_was_listed_is_a_reject(tmp_path: Path, harm: str, check: str) -> None:
    path = write(tmp_path / "a.png", noise(0))
    reader = folder(tmp_path)
    place = next(iter(reader.locations()))
    path.unlink()
    if harm == "pipe":
        os.mkfifo(path)
    if harm == "folder":
        path.mkdir()
    with pytest.raises(Rejected) as caught:
        reader.read(place, SIDE, MAX_PIXELS)
    assert caught.value.check == check


def test_a_file_too_long_for_its_pixels_is_not_read(tmp_path: Path) -> None:
    with write(tmp_path / "film.png", encoded(noise(0))).open("r+b") as file:
        file.truncate(10 << 30)
    reader = folder(tmp_path)
    with pytest.raises(Rejected, match="too_large"):
        reader.read(next(iter(reader.locations())), SIDE, 10_000)


def test_what_decides_a_row_is_known_where_it_is_listed(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(0))
    said = write(tmp_path / "a.txt", "one")

    def known() -> dict:
        return dict(next(iter(folder(tmp_path).locations())).known)

    first = known()
    os.utime(said, ns=(1, 1))
    assert known() != first and known() == known()
    assert io.BytesIO(encoded(noise(0))).getbuffer().nbytes in first["file"]
