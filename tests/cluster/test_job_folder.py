"""The folder of a job on its node: gone when what was made lies in the store, kept where the next try wants it."""

import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from cluster import job
from cluster.parcel import Parcel, pack, unpack
from lorweb.storage import Store
from lorweb.storage.locks import idle, locked
from lorweb.storage.places import NODE_FOLDER, node_folder
from tests.cluster.head import ROOT

HEAD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from cluster import job
with job.alone(Path("jobs"), "filter") as lock:
    sys.exit(job.call("filter", Path.cwd(), lock))
"""
FILES = {"data/sources/a": "source", "data/candidates/a": "pair"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With the ticket of a job of `filter` in it."""
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path / "node"))
    store = Store(str(tmp_path / "store"))
    for name, text in FILES.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True)
        (tmp_path / "project" / name).write_text(text)
    inputs = pack(store, tmp_path / "project", ["data/sources", "data/candidates"])
    store.write(
        job.ticket_key("one"), job.Ticket(inputs, pack(store, tmp_path, []), "seed: 0\n", "").to_json().encode()
    )
    return store


def stage(code: int):
    def run(_name: str, root: Path, _lock: IO[str]) -> int:
        """In the place of the stage itself, which would want a cluster."""
        assert {name: (root / name).read_text() for name in FILES} == FILES
        (root / "data/pairs").mkdir()
        (root / "data/pairs/a").write_text("kept")
        (root / ".work/filter").mkdir(parents=True)
        (root / ".work/filter/rows").write_text("journal")
        return code

    return run


def left(store: Store) -> set[str]:
    folder = node_folder(store) / "jobs"
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_a_finished_job_leaves_nothing_on_its_node(store, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "call", stage(0))
    for _ in range(2):
        job._run("filter", "one", store)
        assert not left(store)
    result = job.found_result(store, "one")
    assert isinstance(result, Parcel) and unpack(store, result, tmp_path / "back", result.folders) == 1
    assert (tmp_path / "back/data/pairs/a").read_text() == "kept"


def test_a_job_that_failed_leaves_its_inputs_to_the_next_try(store, monkeypatch, capsys):
    monkeypatch.setattr(job, "call", stage(3))
    with pytest.raises(SystemExit, match="3"):
        job._run("filter", "one", store)
    assert left(store) >= {f"filter-0/{name}" for name in FILES} and job.found_result(store, "one") is None
    monkeypatch.setattr(job, "call", lambda *_: 3)
    with pytest.raises(SystemExit, match="3"):
        job._run("filter", "one", store)
    assert "0 of 2 input files fetched" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stage_whose_job_was_killed_alone_still_has_its_folder(tmp_path):
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / ".work").mkdir()
    with (
        locked(tmp_path / ".work/filter.lock"),  # so that the stage waits
        subprocess.Popen([sys.executable, "-c", HEAD], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as head,
    ):
        assert head.stderr is not None
        assert "waiting for it" in next(line for line in head.stderr if line.startswith("filter:"))
        head.kill()
        head.wait(30)
        with idle(tmp_path / "jobs/filter.lock") as lock:
            assert lock is None, "another job would work beside the stage that goes on"
    last, free = time.monotonic() + 60, False
    while not free and time.monotonic() < last:  # the stage finds no candidates, and ends
        with idle(tmp_path / "jobs/filter.lock") as lock:
            free = lock is not None
        time.sleep(0.1)
    assert free
