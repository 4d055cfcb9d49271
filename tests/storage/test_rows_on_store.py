"""The row engine where nodes share nothing but a store: processes with working directories of their own, all empty."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lorweb.config import Pool
from lorweb.data.shards import read_index, write_rows, write_shards
from lorweb.storage import StorageError, Store
from pipelines._results import read_batch
from pipelines._rows import RowJob, in_process, run_rows, sent_out
from pipelines._stage import StageFailed
from tests.storage.row_work import OUT, SOURCE, Copy

ROOT = Path(__file__).parents[2]
NODE = """
import pickle, sys
from pathlib import Path
from pipelines._rows import Runner
made, numbers = pickle.loads(Path(sys.argv[1]).read_bytes())
runner = Runner(*made)
for number in numbers:
    print(runner({"id": number}), flush=True)
"""


class Nodes:
    """An executor: each call is a node of its own, with a folder of its own, that works some of the batches."""

    def __init__(self, place: Path, dies_after: int | None = None) -> None:
        self.place, self.dies_after, self.started = place, dies_after, 0

    def __call__(self, job, batches):
        made = sent_out(job, batches)
        for node in range(2):
            numbers = list(range(node, len(batches), 2))
            if self.dies_after is not None:
                numbers = numbers[: self.dies_after]
            yield from self._node(made, numbers)
        if self.dies_after is not None:
            raise KeyboardInterrupt

    def _node(self, made, numbers):
        self.started += 1
        folder = self.place / f"node{self.started}"
        folder.mkdir(parents=True)
        (folder / "work").write_bytes(pickle.dumps((made, numbers)))
        environment = os.environ | {"LORWEB_NODE_FOLDER": str(folder / "own"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-P", "-c", NODE, "work"],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise StageFailed(done.stderr.strip().splitlines()[-1])
        yield from (eval(line) for line in done.stdout.splitlines())


@pytest.fixture
def project(shared: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with ten rows in data/in and a store, as seen by a driver on some node of a cluster."""
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    return made_project(tmp_path / "project", shared, monkeypatch)


def made_project(folder: Path, shared: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["storage"] = {"uri": shared.uri, "options": dict(shared.options)}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    write_rows([{"id": f"r{n}", "value": str(n).encode()} for n in range(10)], Path("data/in"), SOURCE)
    return folder


def job() -> RowJob:
    pool = Pool(actors=2, cpus=0.5, gpus=0, batch_size=1)
    return RowJob("made", "copy", Copy, ("data/in",), (1,), OUT, pool, 1.0, reads=("data/in",))


def finish(execute) -> bytes:
    results = run_rows(job(), read_index(Path("data/in"), SOURCE, ["id"]), execute)
    write_shards(results.tables(), Path("out"), OUT)
    assert [row["id"] for row in results.rejects] == ["r7"]
    return Path("out/part-00000.parquet").read_bytes()


def names(store: Store) -> list[str]:
    return sorted(name for name in store.names(f"work/made/{job().journal.folder.name}"))


def test_nodes_with_nothing_in_common_give_the_same_bytes(project, shared, tmp_path):
    expected = finish(in_process)
    shutil.rmtree(".work")
    shared.remove("work")
    assert finish(Nodes(tmp_path / "nodes")) == expected
    assert len(names(shared)) == 10 and all(name.startswith("rows-") for name in names(shared))
    for node in (tmp_path / "nodes").iterdir():
        found = {path.name for path in node.rglob("*") if path.is_file() and "mirrors" in path.parts}
        assert "part-00000.parquet" in found and not [name for name in found if name.startswith("rows-")]


def test_a_driver_on_another_node_goes_on_where_one_died(project, shared, tmp_path, monkeypatch):
    expected = finish(in_process)
    shared.remove("work")
    made_project(tmp_path / "second", shared, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        finish(Nodes(tmp_path / "first_nodes", dies_after=2))
    assert len([name for name in names(shared) if name.startswith("rows-")]) == 4
    assert not list(Path(".work").rglob("rows-*")), "the driver died before it heard of them"
    made_project(tmp_path / "third", shared, monkeypatch)
    nodes = Nodes(tmp_path / "nodes")
    assert finish(nodes) == expected
    counted = Path(".work/made") / job().journal.folder.name
    keys = [key for path in counted.glob("rows-*") for key in read_batch(path)["key"].to_pylist()]
    assert len(keys) == len(set(keys)) == 10 == len(names(shared))
    assert finish(lambda *_: pytest.fail("nothing is left to do")) == expected


def test_rows_that_raised_are_tried_again_and_leave_both_places(project, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("RAISES", "1")
    results = run_rows(job(), read_index(Path("data/in"), SOURCE, ["id"]), Nodes(tmp_path / "nodes"))
    assert {row["id"]: row["check"] for row in results.rejects} == {"r3": "error", "r7": "seven"}
    monkeypatch.delenv("RAISES")
    shutil.rmtree(".work")
    finish(Nodes(tmp_path / "again"))
    assert len(names(shared)) == 10 == len(list(Path(".work").rglob("rows-*")))


def test_a_damaged_batch_in_the_store_is_worked_again(project, shared, tmp_path):
    expected = finish(Nodes(tmp_path / "nodes"))
    shutil.rmtree(".work")
    name = names(shared)[0]
    key = f"work/made/{job().journal.folder.name}/{name}"
    shared.write(key, b"x" * (shared.size(key) or 0))
    assert finish(Nodes(tmp_path / "again")) == expected
    assert len(names(shared)) == 10


def test_a_lost_input_stops_the_stage_and_refuses_no_row(project, shared, tmp_path):
    def loses(row_job, batches):
        made = sent_out(row_job, batches)
        shared.remove("blobs")
        return Nodes(tmp_path / "nodes")._node(made, [0])

    with pytest.raises(StageFailed, match=r"lacks blobs/.*submit the stage again"):
        finish(loses)
    assert not [name for name in names(shared) if name.startswith("rows-")]


def test_only_the_newest_journals_are_kept_in_the_store(project, shared):
    from dataclasses import replace

    for identity in range(5):
        run_rows(replace(job(), identity=(identity,)), read_index(Path("data/in"), SOURCE, ["id"]), in_process)
        shutil.rmtree(".work")  # every driver on a node of its own
    kept = json.loads(shared.read("work/made/copy.json"))
    assert len(kept) == 3 and shared.folders("work/made") == sorted(kept)
    assert kept == [replace(job(), identity=(n,)).journal.folder.name for n in (4, 3, 2)]


def test_a_store_that_cannot_be_reached_is_told_before_anything_is_done(project, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    raw = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(raw | {"storage": {"uri": f"{blocked}/x", "options": {}}}))
    with pytest.raises(StorageError, match=r"the store .*/file/x \("):
        finish(in_process)
