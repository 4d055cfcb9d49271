"""Hundreds of bad inputs at once: each ends as a reject under the right name, and the good ones beside them arrive."""

import json
import subprocess
import sys

import pytest

from lorweb.data.shards import read_table
from lorweb.records import GIVEN, REJECT, SOURCE, stable_id
from pipelines import collect
from pipelines._rows import in_process
from tests.pipelines.poison import poisoned
from tests.pipelines.projects import ROOT, write_params


def prepare(folder, seed, times):
    world, readers = poisoned(folder, seed, times)
    write_params(folder, {"collect": {"readers": readers, "max_error_rate": 1.0, "max_pixels": 10_000_000}})
    return world


def check(world):
    rejects = read_table(world.folder / "data/sources/rejects", REJECT).to_pylist()
    found = {row["id"]: row["check"] for row in rejects}
    names = {stable_id(origin): origin for origin in (*world.bad, *world.good)}
    assert {names.get(i, i): c for i, c in found.items()} == world.bad
    assert all(row["reason"] and row["reason"].isprintable() and len(row["reason"]) < 600 for row in rejects)
    kept = read_table(world.folder / "data/sources", SOURCE).to_pylist()
    assert {row["origin"] for row in kept} == world.good
    assert {(row["width"], row["height"], row["licence"]) for row in kept} == {(64, 64, "CC0-1.0")}
    given = read_table(world.folder / "data/sources/given", GIVEN, ["source"])["source"].to_pylist()
    assert given == sorted(stable_id(origin) for origin in world.good if origin.startswith("relation252k:"))
    metrics = json.loads((world.folder / "metrics/collect.json").read_text())
    assert metrics["rows_in"] == len(world.bad) + len(world.good) == metrics["kept"] + sum(metrics["rejected"].values())
    return len(world.bad)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_every_bad_input_ends_as_a_reject_and_every_good_one_arrives(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    world = prepare(tmp_path, seed, times=10)
    collect.main(in_process)
    assert check(world) >= 200


@pytest.mark.ray
def test_poison_through_the_real_stage(tmp_path, ray_cluster, monkeypatch):
    world = prepare(tmp_path, 2, times=1)
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.collect"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert check(world) >= 30
