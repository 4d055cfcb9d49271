"""The licence record of a release."""

import json
import shutil
from pathlib import Path

import pytest

from lorweb.data.manifest import Manifest, fingerprint, write_manifest
from lorweb.data.shards import write_rows
from lorweb.records import PAIR
from pipelines import release


def pair(number, **changes):
    row = {
        "id": f"{number:016x}", "task": "colour/sepia", "edit_type": "colour", "instruction": "make it sepia",
        "source_id": f"{number % 2:016x}", "subject": "s", "category": "photo", "before": b"a", "after": b"b",
        "seed": 0, "editor": "embedded", "editor_revision": "1", "licence": "CC0-1.0", "scores": "{}",
    }  # fmt: skip
    return {**row, **changes}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(pairs):
        for name in release.DATA:
            folder = Path("data") / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if name == "pairs":
                write_rows(pairs, folder, PAIR)
            if name == "analogies":
                (folder / "README.md").write_text("# card\n")
            write_manifest(folder, Manifest(len(pairs), {}, {}, {}))

    return write


def test_licences_editors_and_folders_are_recorded(data):
    data([pair(0), pair(1), pair(2), pair(3, licence="MIT", category="avatar:thumbs", editor="given")])
    release.main()
    record = json.loads(Path("release/licences.json").read_text())
    assert record["licences"]["CC0-1.0"] == {"pairs": 3, "sources": 2, "pairs_by_category": {"photo": 3}}
    assert record["licences"]["MIT"]["pairs_by_category"] == {"avatar:thumbs": 1}
    assert record["editors"] == {"embedded 1": 3, "given 1": 1}
    assert record["folders"]["data/pairs"] == fingerprint(Path("data/pairs")) and len(record["folders"]) == 3
    assert Path("release/README.md").read_text() == "# card\n"


def test_a_pair_without_a_licence_stops_it(data):
    data([pair(0), pair(1, licence=" ")])
    with pytest.raises(SystemExit, match=r"1 pairs have no licence, as 0000000000000001; give `licence`"):
        release.main()
    assert not Path("release").exists()


def test_damaged_files_stop_it(data):
    data([pair(0)])
    (shard,) = Path("data/pairs").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit, match=r"part-00000.parquet is not what .*_manifest.json says"):
        release.main()


def test_before_the_stages_have_run_it_says_which_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"release: no data/sources/_manifest.json"):
        release.main()
