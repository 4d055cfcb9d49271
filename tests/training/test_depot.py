"""Checkpoints in a store that nodes share: whole or absent, kept like those on a disk, and the ones that count."""

import pytest
import torch

from lorweb.storage.store import Store
from lorweb.training.course import Keeper
from lorweb.training.depot import Depot
from lorweb.training.loop import Stopped, train
from lorweb.training.state import (
    Snapshot,
    checkpoint_path,
    load_checkpoint,
    newest_whole,
    save_checkpoint,
)
from lorweb.training.writer import Retention, Writer
from tests.stores import s3_address, s3_prefixes, store
from tests.training.made import equal, held_out, make_run, weights, write_data
from tests.training.test_interruptions import IDENTITY, Recorder, after, files, short

__all__ = ["s3_address", "s3_prefixes", "store"]  # fixtures


@pytest.fixture
def depot(store):
    return Depot(store, "work/train/abc/lorweb")


def snapshot(step, identity=IDENTITY, value=None):
    weight = torch.full((50,), float(step if value is None else value))
    return Snapshot(step, identity, {"model/w": weight}, {"n": [step]})


def save(depot, folder, *steps, keep=10, best=None, value=None):
    for step in steps:
        depot.put(save_checkpoint(folder, snapshot(step, value=value), keep, best), keep, best)


@pytest.mark.slow
def test_it_keeps_what_a_disk_keeps_and_gives_it_back(depot, tmp_path):
    save(depot, tmp_path / "one", 5, 10, 15, 20, keep=2, best=10)
    assert depot.steps() == [10, 15, 20] == [int(p.name[-8:]) for p in sorted((tmp_path / "one").iterdir())]
    assert depot.newest() == (20, []) and depot.state(10).facts == {"n": [10]}
    for step in (10, 20):
        depot.fetch(step, tmp_path / "two")
        assert files(tmp_path / "two", step) == files(tmp_path / "one", step)
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*step-00000005"):
        depot.fetch(5, tmp_path / "two")


def test_what_is_there_already_travels_no_more(depot, tmp_path):
    save(depot, tmp_path / "one", 5)
    target = depot.fetch(5, tmp_path / "two")
    before = target.stat().st_ino
    depot.store.remove(f"{depot.prefix}/step-00000005/tensors.safetensors")
    assert depot.fetch(5, tmp_path / "two").stat().st_ino == before


def test_a_disk_that_holds_another_one_gets_that_of_the_depot(depot, tmp_path):
    save(depot, tmp_path / "one", 5)
    save_checkpoint(tmp_path / "two", snapshot(5, value=9), 1)
    assert newest_whole(tmp_path / "two")[0] is not None
    depot.fetch(5, tmp_path / "two")
    assert files(tmp_path / "two", 5) == files(tmp_path / "one", 5)
    (checkpoint_path(tmp_path / "two", 5) / "state.json").write_text("{}")
    depot.fetch(5, tmp_path / "two")
    assert files(tmp_path / "two", 5) == files(tmp_path / "one", 5)


def test_without_its_manifest_a_checkpoint_is_none(depot, tmp_path):
    """Whether its putting or its removal was broken off."""
    save(depot, tmp_path, 5, 10)
    depot.store.remove(f"{depot.prefix}/step-00000010/manifest.json")
    assert depot.newest() == (5, []) and Keeper(tmp_path / "new", IDENTITY, {}, depot).newest() == (5, [])
    save(depot, tmp_path, 10)
    assert depot.newest() == (10, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tensors.safetensors", b"short", "tensors.safetensors has 5 bytes instead of"),
        ("state.json", None, "state.json is not what was written"),
        ("tensors.safetensors", None, "tensors.safetensors is not what was written"),
    ],
    ids=["truncated", "state", "tensors"],
)
def test_a_damaged_one_is_named_and_passed_over(depot, tmp_path, name, content, reason):
    save(depot, tmp_path / "one", 5, 10)
    key = f"{depot.prefix}/step-00000010/{name}"
    depot.store.write(key, content or b"x" * len(depot.store.read(key)))
    step, (damaged,) = Keeper(tmp_path / "two", IDENTITY, {}, depot).newest()
    assert step == 5 and "step-00000010" in str(damaged.path) and damaged.reason.startswith(reason)
    assert not checkpoint_path(tmp_path / "two", 10).exists() and newest_whole(tmp_path / "two")[0] is not None
    save(depot, tmp_path / "one", 10)  # the run has come to its step again
    assert Keeper(tmp_path / "two", IDENTITY, {}, depot).newest() == (10, [])


def test_another_training_goes_on_from_it_under_its_own_name(depot, tmp_path):
    other = {"config": "2"}
    save(depot, tmp_path, 5)
    new, newer = (Depot(depot.store, f"work/train/{name}/lorweb") for name in ("def", "ghi"))
    new.adopt(depot, 5, other, {"resumed": 1})
    newer.adopt(checkpoint_path(tmp_path, 5), 5, other, {"resumed": 1})
    for index, adopted in enumerate((new, newer)):
        found = load_checkpoint(adopted.fetch(5, tmp_path / str(index)), other)
        assert found.facts == {"n": [5], "resumed": 1} and torch.equal(found.tensors["model/w"], torch.full((50,), 5.0))
    assert depot.state(5).identity == IDENTITY


def test_a_checkpoint_has_not_landed_before_the_store_has_it(tmp_path):
    (tmp_path / "file").write_text("in the way")
    full = Depot(Store(str(tmp_path / "file")), "x")
    with pytest.raises(OSError, match=r"cannot .* the store"), Writer(tmp_path / "run", True, full) as writer:
        writer.save(snapshot(5), Retention(2, None))
        with pytest.raises(OSError, match=r"the store .*file"):
            writer.wait()
        assert writer.written() == []
        writer.save(snapshot(6), Retention(2, None))


@pytest.mark.slow
@pytest.mark.parametrize("beside", [False, True])
def test_a_node_that_has_nothing_goes_on_bit_for_bit(tmp_path, beside):
    folders, store = write_data(tmp_path / "data"), Store(str(tmp_path / "store"))
    depot = Depot(store, "lorweb")

    def advance(folder, stop=lambda: False, depot=depot):
        run, hooks = make_run(folders, short(async_checkpoints=beside)), Recorder()
        return run, train(run, held_out(folders), Keeper(tmp_path / folder, IDENTITY, {}, depot), hooks, stop), hooks

    whole, told, _ = advance("whole", depot=None)
    with pytest.raises(Stopped) as stopped:
        advance("first", after(4 + 2 + 4 + 1))
    assert stopped.value.step == 3 and depot.newest() == (3, [])
    run, retold, hooks = advance("second")
    assert hooks.steps == [4] and hooks.saves == [4] and equal(weights(run), weights(whole)) and retold == told
    depot.fetch(4, tmp_path / "third")
    assert files(tmp_path / "third", 4) == files(tmp_path / "whole", 4)
