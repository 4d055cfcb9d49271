"""What travels between a submitter and its job, and the folder that the job works in; no cluster."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from cluster.job import Ticket, call, found_result, result_key, work_place
from cluster.parcel import Parcel, deliver, pack, unpack, whole
from lorweb.storage import StorageError, Store
from lorweb.storage.blobs import blob_key
from tests.cluster.trees import fill, tree


def test_what_is_delivered_is_what_was_packed(tmp_path):
    store, made, root = Store(str(tmp_path / "store")), tmp_path / "made", tmp_path / "root"
    fill(made, {"data/a/x": "1", "data/a/deep/y": "2", "metrics/m.json": "3"})
    (made / "models/none").mkdir(parents=True)
    paths = ["data/a", "models/none", "metrics/m.json", "metrics/n.csv"]
    parcel = Parcel.of_json(pack(store, made, paths).to_json())
    assert whole(store, parcel)
    fill(root, {"data/a/x": "old", "data/a/stale": "", "metrics/n.csv": "old", "mine": "stays"})
    assert deliver(store, parcel, root, paths, root / ".work/fetch/one") == 3
    (root / ".work/fetch/lock").unlink()
    assert tree(root) == tree(made) | {"mine": "stays"}
    assert (root / "models/none").is_dir() and not (root / ".work/fetch/one").exists()
    unpack(store, Parcel.of_json(parcel.to_json()), root, ["data/a"])
    assert tree(root)["data/a/x"] == "1"


@pytest.mark.slow
def test_two_submitters_of_one_job_deliver_one_after_the_other(tmp_path, monkeypatch):
    """Both have fetched before either moves anything, if nothing keeps them apart."""
    store, made, root = Store(str(tmp_path / "store")), tmp_path / "made", tmp_path / "root"
    fill(made, {"data/a/x": "1", "data/a/y": "2"})
    parcel, meet = pack(store, made, ["data/a"]), threading.Barrier(2)

    def fetched_together(*arguments):
        found = unpack(*arguments)
        with suppress(threading.BrokenBarrierError):
            meet.wait(1)
        return found

    monkeypatch.setattr("cluster.parcel.unpack", fetched_together)
    with ThreadPoolExecutor(2) as pool:
        for told in [pool.submit(deliver, store, parcel, root, ["data/a"], root / ".work/fetch/one") for _ in range(2)]:
            told.result()
    assert {name: text for name, text in tree(root).items() if name.startswith("data")} == tree(made)


@pytest.mark.parametrize("path", ["../out", "data/../../out", "/tmp/out", "data/a/.."])
def test_a_parcel_that_leads_out_of_the_project_is_refused(tmp_path, path):
    store, made = Store(str(tmp_path / "store")), tmp_path / "made"
    fill(made, {"data/a/x": "1"})
    good = json.loads(pack(store, made, ["data/a"]).to_json())
    (what,) = good["files"].values()
    for parcel in ({**good, "files": {path: what}}, {**good, "folders": [path]}):
        with pytest.raises(StorageError, match=f"names '{re.escape(path)}', outside of the project's folder"):
            Parcel.of_json(json.dumps(parcel))
    with pytest.raises(StorageError, match=r"gives 'data/a/x' the hash '\.\./x', which is none"):
        Parcel.of_json(json.dumps({**good, "files": {"data/a/x": ["../x", 1]}}))


def test_nothing_is_unpacked_but_what_was_asked_for(tmp_path):
    store, made, root = Store(str(tmp_path / "store")), tmp_path / "made", tmp_path / "root"
    fill(made, {"data/a/x": "1", "lorweb/code.py": "2", "data/ab": "3"})
    parcel = pack(store, made, ["data/a", "lorweb", "data/ab"])
    assert unpack(store, parcel, root, ["data/a"]) == 1 and tree(root) == {"data/a/x": "1"}


def test_damage_is_noticed_before_anything_moves(tmp_path):
    store, made, root = Store(str(tmp_path / "store")), tmp_path / "made", tmp_path / "root"
    fill(made, {"data/a/x": "1", "data/a/y": "2"})
    fill(root, {"data/a/x": "old"})
    parcel = pack(store, made, ["data/a"])
    store.write(blob_key(parcel.inventory.files["data/a/y"][0]), b"3")
    with pytest.raises(StorageError, match="damaged"):
        deliver(store, parcel, root, ["data/a"], root / "aside")
    assert tree(root / "data") == {"a/x": "old"} and not whole(store, parcel)
    store.write(result_key("job"), parcel.to_json().encode())
    assert found_result(store, "job") is None and found_result(store, "other") is None  # it is made again


def test_a_job_works_in_a_place_of_its_own(tmp_path):
    with (
        work_place(tmp_path, "train") as one,
        work_place(tmp_path, "train") as two,
        work_place(tmp_path, "filter") as three,
    ):
        assert len({one[0], two[0], three[0]}) == 3
    with work_place(tmp_path, "train") as again:
        assert again[0] == one[0]


def test_a_ticket_comes_back_as_it_was(tmp_path):
    fill(tmp_path, {"data/a": "1"})
    parcel = pack(Store(str(tmp_path / "store")), tmp_path, ["data/a", "missing"])
    ticket = Ticket(parcel, parcel, "seed: 0\n", "")
    assert Ticket.of_json(ticket.to_json()) == ticket


@pytest.mark.slow
def test_the_stage_s_own_exit_code_is_the_job_s(tmp_path):
    with work_place(tmp_path, "filter") as (root, lock):
        assert call("filter", root, lock) == 1  # no params.yaml there
        assert call("nothing", root, lock) == 1
