"""Collect: real photos and avatars in, and everything that is no image leaves with a reason."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lorweb.data.manifest import read_manifest
from lorweb.data.shards import read_table
from lorweb.records import REJECT, SOURCE
from pipelines import collect
from pipelines._rows import in_process
from tests.pipelines.projects import contents, write_params


def png(seed, size=(96, 80), mode="RGB", fmt="PNG"):
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, fmt)
    return buffer.getvalue()


def bomb():
    """A PNG of 100 bytes whose header claims 50,000 x 50,000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


POISON = {
    "empty.png": b"",
    "text.jpg": b"this is no image",
    "truncated.png": png(1)[:3000],
    "bomb.png": bomb(),
    "tiny.png": png(2, (4, 4)),
    "copy.png": png(3),
}
GOOD = {"good.png": png(3), "palette.gif": png(4, fmt="GIF", mode="P"), "print.jpg": png(5, mode="CMYK", fmt="JPEG")}


@pytest.fixture
def poisoned(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    for name, data in {**POISON, **GOOD}.items():
        (tmp_path / "images" / name).write_bytes(data)
    reader = {"reader": "folder", "name": "mine", "path": "images", "licence": "CC0-1.0", "captions": "none"}
    write_params(tmp_path, {"collect": {"readers": [reader], "max_error_rate": 0.9}})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_poisoned(folder):
    kept = read_table(folder / "data/sources", SOURCE).to_pylist()
    rejects = read_table(folder / "data/sources/rejects", REJECT).to_pylist()
    assert len(kept) == 3 and {(row["width"], row["height"]) for row in kept} == {(64, 64)}
    checks = {row["check"] for row in rejects}
    assert len(rejects) == 6 and checks > {"duplicate", "empty", "too_large", "too_small", "truncated"}
    assert checks & {"not_an_image", "unreadable"}  # for the text: some raster formats have no signature to look for
    assert all(row["reason"] and row["stage"] == "collect" for row in rejects)
    metrics = json.loads((folder / "metrics/collect.json").read_text())
    assert metrics["rows_in"] == metrics["kept"] + sum(metrics["rejected"].values()) == 9


def test_a_poisoned_folder_ends_as_rejects_with_reasons(poisoned):
    collect.main(in_process)
    check_poisoned(poisoned)


def test_too_much_poison_fails_and_publishes_nothing(poisoned):
    path = poisoned / "params.yaml"
    path.write_text(path.read_text().replace("max_error_rate: 0.9", "max_error_rate: 0.1"))
    with pytest.raises(SystemExit, match=r"rows were refused, more than collect.max_error_rate = 0.1"):
        collect.main(in_process)
    assert not (poisoned / "data/sources").exists()


def test_packaged_sources_are_the_same_bytes_again_and_params_that_do_not_matter_do_not_show(generated, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        write_params(tmp_path, {"collect": {"pool": {"batch_size": 7}}})
        collect.main(in_process)
    assert contents(tmp_path / "data/sources") == contents(generated / "data/sources")
    rows = read_table(tmp_path / "data/sources", SOURCE, ["id", "subject", "category"]).to_pylist()
    assert {row["category"] for row in rows} == {"photo", "avatar:thumbs"}
    assert len({row["subject"] for row in rows}) == len(rows) == read_manifest(tmp_path / "data/sources")["rows"]


def test_a_replaced_file_alone_is_read_again(poisoned):
    collect.main(in_process)
    before = set((poisoned / ".work/collect").rglob("rows-*"))
    (poisoned / "images/empty.png").write_bytes(png(9))
    collect.main(in_process)
    fresh = set((poisoned / ".work/collect").rglob("rows-*")) - before
    assert len(fresh) == 1
    assert read_table(poisoned / "data/sources", SOURCE, ["id"]).num_rows == 4


def test_two_readers_of_one_source_are_refused(poisoned):
    reader = {"reader": "folder", "name": "mine", "path": "images", "licence": "CC0-1.0", "captions": "none"}
    write_params(poisoned, {"collect": {"readers": [reader, reader]}})
    with pytest.raises(SystemExit, match=r"two entries of collect\.readers give the source 'folder:"):
        collect.main(in_process)
