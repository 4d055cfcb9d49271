"""The row engine where nodes share nothing but a store: processes with working directories of their own, all empty."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lorweb.config import Pool
from lorweb.data.shards import read_index, write_rows, write_shards
from lorweb.records import stable_id
from lorweb.storage import StorageError, Store, is_uri
from pipelines import _copies
from pipelines._batches import Batches
from pipelines._results import read_batch
from pipelines._rows import RowJob, in_process, row_key, run_rows, sent_out
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
    return sorted(set(store.names(f"work/made/{job().journal.folder.name}")) - {"opened"})


@pytest.mark.slow
def test_nodes_with_nothing_in_common_give_the_same_bytes(project, shared, tmp_path):
    expected = finish(in_process)
    shutil.rmtree(".work")
    shared.remove("work")
    assert finish(Nodes(tmp_path / "nodes")) == expected
    assert len(names(shared)) == 10 and all(name.startswith("rows-") for name in names(shared))
    for node in (tmp_path / "nodes").iterdir():
        found = {path.name for path in node.rglob("*") if path.is_file() and "mirrors" in path.parts}
        assert "part-00000.parquet" in found and not [name for name in found if name.startswith("rows-")]


@pytest.mark.slow
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


@pytest.mark.slow
def test_rows_that_raised_are_tried_again_and_leave_both_places(project, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("RAISES", "1")
    results = run_rows(job(), read_index(Path("data/in"), SOURCE, ["id"]), Nodes(tmp_path / "nodes"))
    assert {row["id"]: row["check"] for row in results.rejects} == {"r3": "error", "r7": "seven"}
    monkeypatch.delenv("RAISES")
    shutil.rmtree(".work")
    finish(Nodes(tmp_path / "again"))
    assert len(names(shared)) == 10 == len(list(Path(".work").rglob("rows-*")))


@pytest.mark.slow
def test_a_damaged_batch_in_the_store_is_worked_again(project, shared, tmp_path):
    expected = finish(Nodes(tmp_path / "nodes"))
    shutil.rmtree(".work")
    name = names(shared)[0]
    key = f"work/made/{job().journal.folder.name}/{name}"
    shared.write(key, b"x" * (shared.size(key) or 0))
    assert finish(Nodes(tmp_path / "again")) == expected
    assert len(names(shared)) == 10


@pytest.mark.slow
def test_a_batch_torn_on_this_node_is_fetched_and_not_worked_again(project, shared, tmp_path):
    expected = finish(Nodes(tmp_path / "nodes"))
    torn, *others = sorted(Path(".work").rglob("rows-*"))
    torn.write_bytes(bytes(torn.stat().st_size))  # what a power cut leaves: the length, and zeros
    assert others and finish(lambda *_: pytest.fail("all of it lies in the store")) == expected
    assert len(names(shared)) == 10 and len(read_batch(torn)) == 1


@pytest.mark.slow
def test_a_lost_input_stops_the_stage_and_refuses_no_row(project, shared, tmp_path):
    def loses(row_job, batches):
        made = sent_out(row_job, batches)
        shared.remove("blobs")
        return Nodes(tmp_path / "nodes")._node(made, [0])

    with pytest.raises(StageFailed, match=r"lacks blobs/.*submit the stage again"):
        finish(loses)
    assert not [name for name in names(shared) if name.startswith("rows-")]


def opened(*identities: int) -> set[str]:
    """Names of journals, opened by drivers that have nothing to do, each on a node of its own."""
    for identity in identities:
        run_rows(replace(job(), identity=(identity,)), [], in_process)
        shutil.rmtree(".work")
    return {replace(job(), identity=(identity,)).journal.folder.name for identity in identities}


@pytest.mark.slow
def test_only_the_newest_journals_that_rest_are_kept_in_the_store(project, shared, monkeypatch):
    made = opened(0, 1, 2, 3, 4)
    assert set(shared.folders("work/made")) == made, "they were touched today"
    if not is_uri(shared.uri):  # S3 counts whole seconds
        monkeypatch.setattr(_copies, "RESTED", -1.0)
        last = opened(0)
        kept = set(shared.folders("work/made"))
        assert len(kept) == 3 and kept == last | opened(3, 4)


@pytest.mark.slow
def test_parameter_sets_at_once_lose_nothing(project, shared):
    expected = finish(in_process)

    def beside_four_others(row_job, batches):
        yield from in_process(row_job, batches)
        opened(1, 2, 3, 4)  # and what this driver finished is in the store alone
        row_job.journal.folder.mkdir(parents=True)

    shutil.rmtree(".work")
    shared.remove("work")
    assert finish(beside_four_others) == expected


@pytest.mark.slow
def test_data_sets_at_once_do_not_take_each_other_s_work(project, shared, tmp_path, monkeypatch):
    expected = finish(in_process)
    shutil.rmtree(".work")
    shared.remove("work")

    def beside_another(row_job, batches):
        sent = sent_out(row_job, batches)
        made_project(tmp_path / "other", shared, monkeypatch)
        write_rows([{"id": f"q{n}", "value": b"1"} for n in range(3)], Path("data/in"), SOURCE)
        assert len(run_rows(job(), read_index(Path("data/in"), SOURCE, ["id"]), in_process)) == 3
        monkeypatch.chdir(project)
        yield from Nodes(tmp_path / "nodes")._node(sent, list(range(len(batches))))

    assert finish(beside_another) == expected
    assert not [name for name in names(shared) if name.startswith("todo-")]


def test_work_that_waits_is_the_driver_s_own_and_goes_when_it_is_forgotten(project, shared, tmp_path, monkeypatch):
    journal = job().journal
    journal.open()
    for _ in range(2):
        batches = Batches.write(journal.folder, [{"id": "x"}], 1)
        journal.copies.put(batches.path)
    assert len(names(shared)) == 2, "the same items, two drivers"
    journal.open()
    assert len(names(shared)) == 2
    there = tmp_path / "node" / batches.path.name
    for name in names(shared):
        journal.copies.bring_todo(there.with_name(name))
    assert len(list(there.parent.glob("todo-*"))) == 2
    monkeypatch.setattr(_copies, "FORGOTTEN", -5.0)
    there.unlink()
    journal.copies.bring_todo(there)
    assert [path.name for path in there.parent.glob("todo-*")] == [there.name]
    journal.open()
    assert names(shared) == []


@pytest.mark.slow
def test_a_batch_that_is_damaged_while_a_stage_runs_is_worked_again(project, shared):
    expected, calls = finish(in_process), []
    shutil.rmtree(".work")
    shared.remove("work")

    def damaged(row_job, batches):
        calls.append(len(batches))
        journal = row_job.journal
        if len(calls) == 1:  # before: what another driver seems to have finished; after: what this one has
            first = journal.path(stable_id(row_key(json.loads(batches[0])[0])))
            journal.copies.store.write(journal.copies._key(first.name), b"x" * 1000)
        yield from in_process(row_job, batches)
        if len(calls) == 1:
            for path in sorted(journal.folder.glob("rows-*"))[:3]:
                journal.copies.store.write(journal.copies._key(path.name), b"x" * path.stat().st_size)
                path.unlink()

    assert finish(damaged) == expected
    assert calls == [10, 3] and len(names(shared)) == 10


@pytest.mark.slow
def test_what_cannot_be_worked_again_in_this_run_is_a_sentence(project, shared):
    rows = read_index(Path("data/in"), SOURCE, ["id"])
    run_rows(job(), rows[:5], in_process)

    def loses(row_job, batches):
        yield from in_process(row_job, batches)
        shared.remove(f"work/made/{row_job.journal.folder.name}")
        for path in row_job.journal.folder.glob("rows-*"):
            path.unlink()

    with pytest.raises(
        StageFailed, match=r"copy stopped: 10 finished rows are gone from the journal.*run the stage again"
    ):
        run_rows(job(), rows, loses)
    assert names(shared) == []
    finish(in_process)


def test_a_store_that_cannot_be_reached_is_told_before_anything_is_done(project, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    raw = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(raw | {"storage": {"uri": f"{blocked}/x", "options": {}}}))
    with pytest.raises(StorageError, match=r"the store .*/file/x \("):
        finish(in_process)
