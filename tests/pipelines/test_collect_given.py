"""Pairs that exist pass from collect to candidates, and only what changed is read again."""

import json

import pytest

from lorweb.data.shards import read_table
from lorweb.records import GIVEN, PAIR, REJECT, SOURCE
from pipelines import collect, generate
from pipelines._rows import in_process
from tests.data.pictures import noise, write
from tests.pipelines.projects import POOL, contents, write_params

PAIRS = {"reader": "pairs", "name": "p", "path": "pairs", "licence": "MIT", "instruction": "folder"}
PAIRS |= {"edit_types": {"p/paint": "style"}, "aspect_tolerance": 0.02}
FOLDER = {"reader": "folder", "name": "mine", "path": "images", "licence": "CC0-1.0", "captions": "sidecar"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "images/a.png", noise(0))
    write(tmp_path / "images/a.txt", "one")
    write(tmp_path / "images/b.png", noise(1))
    for i, task in enumerate(("paint", "turn", "turn")):
        write(tmp_path / f"pairs/{task}/{i}_before.png", noise(1))
        write(tmp_path / f"pairs/{task}/{i}_after.png", noise(9))
    return tmp_path


def run(place, *readers, **changes):
    write_params(place, {"collect": {"readers": list(readers), "max_error_rate": 1.0, **changes}})
    collect.main(in_process)
    return {row["origin"]: row for row in read_table(place / "data/sources", SOURCE).to_pylist()}


def test_given_pairs_go_beside_their_sources_and_become_candidates(place):
    rows = run(place, FOLDER, PAIRS)
    given = read_table(place / "data/sources/given", GIVEN).to_pylist()
    ids = {row["id"]: row for row in rows.values()}
    assert {(row["task"], row["edit_type"], row["instruction"]) for row in given} == {
        ("p/paint", "style", "paint"),
        ("p/turn", "other", "turn"),
    }
    assert all(ids[row["source"]]["origin"].startswith("pairs:p/") for row in given) and len(given) == 2
    rejects = read_table(place / "data/sources/rejects", REJECT).to_pylist()
    assert [row["check"] for row in rejects] == ["duplicate", "duplicate"]  # b.png, and one pair of "turn"
    assert "folder:mine/b.png" not in rows and {ids[row["source"]]["subject"] for row in given} == {given_subject(rows)}
    assert json.loads((place / "metrics/collect.json").read_text())["given"] == {"pairs": 2, "tasks": 2}
    entry = {"editor": "given", "tasks": ["*"], "pool": POOL}
    write_params(place, {"collect": {"readers": [FOLDER, PAIRS]}, "generate": {"editors": [entry]}})
    generate.main(in_process)
    pairs = read_table(place / "data/candidates", PAIR).to_pylist()
    assert {pair["after"] for pair in pairs} == {row["after"] for row in given}
    assert {(pair["licence"], pair["task"]) for pair in pairs} == {("MIT", "p/paint"), ("MIT", "p/turn")}


def given_subject(rows):
    return next(row["subject"] for origin, row in rows.items() if origin.startswith("pairs:"))


def test_without_pairs_there_is_no_folder_of_them(place):
    run(place, PAIRS)
    assert (place / "data/sources/given").is_dir()
    first = contents(place / "data/sources")
    assert set(run(place, FOLDER)) == {"folder:mine/a.png", "folder:mine/b.png"}
    assert not (place / "data/sources/given").exists()
    run(place, PAIRS)
    assert contents(place / "data/sources") == first


@pytest.mark.slow
def test_only_what_changed_is_read_again(place):
    def fresh(*readers):
        before = set((place / ".work/collect").rglob("rows-*"))
        rows = run(place, *readers, pool={"batch_size": 1})
        return rows, len(set((place / ".work/collect").rglob("rows-*")) - before)

    assert fresh(FOLDER, PAIRS)[1] == 5
    assert fresh(FOLDER, PAIRS)[1] == 0
    write(place / "images/a.txt", "another")
    rows, number = fresh(FOLDER, PAIRS)
    assert number == 1 and rows["folder:mine/a.png"]["caption"] == "another"
    assert fresh(FOLDER | {"licence": "MIT"}, PAIRS)[1] == 2
    assert fresh(FOLDER | {"licence": "MIT"}, PAIRS | {"edit_types": {}})[1] == 3
    write(place / "pairs/turn/1_after.png", noise(10))
    assert fresh(FOLDER | {"licence": "MIT"}, PAIRS | {"edit_types": {}})[1] == 1
