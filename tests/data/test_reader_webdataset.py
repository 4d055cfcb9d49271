"""WebDataset shards: samples by their offset, and shards that are damaged where it hurts."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from lorweb.data.rejects import Rejected
from tests.data.pictures import SIDE, checks, encoded, noise, outcomes, pixels, reader_of, squared
from tests.data.world import MAX_PIXELS


def webdataset(path: Path, captions: str = "sidecar"):
    entry = {"path": str(path), "licence": "CC0-1.0", "images": ["jpg", "png"], "captions": captions}
    return reader_of(reader="webdataset", name="set", **entry)


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def samples(count: int) -> list[tuple[str, bytes]]:
    images = [(f"{i:04d}.png", encoded(noise(i))) for i in range(count)]
    texts = [(f"{i:04d}.json", json.dumps({"caption": f"sample {i}"}).encode()) for i in range(count)]
    return [member for both in zip(images, texts, strict=True) for member in both]


def test_samples_of_tar_shards_are_sources(tmp_path: Path) -> None:
    more = [
        ("d/x.y.png", encoded(noise(7))),
        ("d/x.txt", b"said"),
        ("d/x.cls", b"3"),
        ("d/x.JPG", encoded(noise(8), "JPEG")),
    ]
    tar(tmp_path / "a.tar", samples(5) + more)
    found = outcomes(webdataset(tmp_path))
    assert {name: row["caption"] for name, row in found.items()} == {
        **{f"set/a.tar#{i:04d}": f"sample {i}" for i in range(5)},
        "set/a.tar#d/x": "said",
    }
    assert pixels(found["set/a.tar#0003"]["image"]) == squared(noise(3))
    assert {row["caption"] for row in outcomes(webdataset(tmp_path / "a.tar", "none")).values()} == {""}


def test_odd_members_are_rejects(tmp_path: Path) -> None:
    odd = [("0000.png", b"again"), ("t.txt", b"alone"), ("u.png", b"")]
    with tarfile.open(tar(tmp_path / "a.tar", samples(1) + odd), "a") as file:
        for kind in (tarfile.SYMTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"k{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        file.addfile(info)
    found = outcomes(webdataset(tmp_path))
    assert found.pop("set/a.tar#0000")["caption"] == "sample 0"
    repeated = next(name for name in found if name.startswith("set/a.tar#0000.png at "))
    assert found == {
        repeated: "duplicate_name",
        "set/a.tar#t": "no_image",
        "set/a.tar#u": "empty",
        "set/a.tar#k2.png": "not_a_file",
        "set/a.tar#k6.png": "not_a_file",
    }


@pytest.mark.parametrize(
    "harm", ["cut in a member", "cut in a header", "holed header", "joined", "negative", "text", "gz"]
)
def test_a_damaged_tar_shard_gives_what_lies_before_the_damage(tmp_path: Path, harm: str) -> None:
    path = tar(tmp_path / "a.tar", samples(6))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as file:
        fourth = file.getmembers()[6]
    if harm == "cut in a member":
        data = data[: fourth.offset_data + 700]
    if harm == "cut in a header":
        data = data[: fourth.offset + 100]
    if harm == "holed header":
        data[fourth.offset : fourth.offset + 300] = b"x" * 300
    if harm == "joined":
        data = bytearray(bytes(data) * 2)
    if harm == "negative":
        fourth.size = -2 * (fourth.offset - 512)
        data[fourth.offset : fourth.offset + 512] = fourth.tobuf(tarfile.GNU_FORMAT)
    if harm == "text":
        data = bytearray(b"no archive" * 100)
    if harm == "gz":
        data = bytearray(b"\x1f\x8b" + bytes(2000))
    path.write_bytes(data)
    found = outcomes(webdataset(tmp_path))
    good = {"joined": 6, "text": 0, "gz": 0}.get(harm, 3)
    assert len(found) - len(checks(found)) == good
    assert checks(found)["set/a.tar"] == "bad_shard"
    assert len(checks(found)) == (2 if harm == "cut in a member" else 1)


def test_a_shard_that_shrank_since_it_was_listed_gives_rejects(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", samples(2))
    reader = webdataset(tmp_path)
    places = list(reader.locations())
    path.write_bytes(path.read_bytes()[:1000])
    for place in places:
        with pytest.raises(Rejected, match="truncated"):
            reader.read(place, SIDE, MAX_PIXELS)


def test_a_place_without_shards_is_answered(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.tar; correct"):
        list(webdataset(tmp_path).locations())
    with pytest.raises(ValueError, match="correct collect"):
        webdataset(tmp_path / "no")
