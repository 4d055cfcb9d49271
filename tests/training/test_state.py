import json
import os
import shutil

import pytest
import torch

from lorweb.training.state import (
    Snapshot,
    adopt_checkpoint,
    checkpoint_path,
    clear_leftovers,
    load_checkpoint,
    newest_whole,
    read_state,
    save_checkpoint,
)
from tests.harm import full_disk

IDENTITY = {"config": "abc", "data": "def"}


def snapshot(step):
    return Snapshot(
        step, IDENTITY, {"model/w": torch.full((3,), float(step)), "history/loss": torch.zeros(0)}, {"n": [step]}
    )


def save(folder, *steps, keep=10, best=None):
    for step in steps:
        save_checkpoint(folder, snapshot(step), keep, best)


def test_what_was_saved_comes_back(tmp_path):
    save(tmp_path, 5)
    path, damaged = newest_whole(tmp_path)
    assert path == checkpoint_path(tmp_path, 5) and not damaged
    found = load_checkpoint(path, IDENTITY)
    assert found.step == 5 and found.facts == {"n": [5]}
    assert torch.equal(found.tensors["model/w"], torch.full((3,), 5.0)) and found.tensors["history/loss"].numel() == 0


def test_equal_snapshots_are_equal_bytes(tmp_path):
    save(tmp_path / "one", 5)
    save(tmp_path / "two", 5)
    names = sorted(p.name for p in checkpoint_path(tmp_path / "one", 5).iterdir())
    assert len(names) == 3
    for name in names:
        first, second = (checkpoint_path(tmp_path / run, 5) / name for run in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_only_the_newest_stay(tmp_path):
    save(tmp_path, 5, 10, 15, 20, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


def test_the_best_stays_however_old(tmp_path):
    save(tmp_path, 5, 10, 15, keep=2, best=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000005", "step-00000010", "step-00000015"]
    save(tmp_path, 20, keep=1, best=20)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000020"]


def test_an_empty_folder_has_none(tmp_path):
    assert newest_whole(tmp_path) == (None, [])
    assert newest_whole(tmp_path / "absent") == (None, [])


def test_a_copy_under_another_name_is_no_checkpoint(tmp_path):
    save(tmp_path, 5)
    shutil.copytree(checkpoint_path(tmp_path, 5), tmp_path / "step-00000005.bak")
    save(tmp_path, 10, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000005.bak", "step-00000010"]
    assert newest_whole(tmp_path) == (checkpoint_path(tmp_path, 10), [])


def truncate(path):
    os.truncate(path / "tensors.safetensors", 10)


def tamper(path):
    data = bytearray((path / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "tensors.safetensors").write_bytes(data)


def rewrite_state(path):
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "step": 7}))


HARM = {
    "truncated": (truncate, "bytes instead of"),
    "tampered": (tamper, "sha256 differs"),
    "other state": (rewrite_state, "state.json"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
    "no tensors": (lambda path: (path / "tensors.safetensors").unlink(), "tensors.safetensors is missing"),
    "torn manifest": (lambda path: (path / "manifest.json").write_text('{"tensors.saf'), "cannot be read"),
    "strange manifest": (lambda path: (path / "manifest.json").write_text("[]"), "manifest.json lists"),
    "mistyped manifest": (
        lambda path: (path / "manifest.json").write_text('{"tensors.safetensors": 1, "state.json": 2}'),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_checkpoint_is_named_and_skipped_for_the_one_before(tmp_path, harm):
    save(tmp_path, 5, 10)
    do, reason = HARM[harm]
    do(checkpoint_path(tmp_path, 10))
    path, damaged = newest_whole(tmp_path)
    assert path == checkpoint_path(tmp_path, 5)
    assert [bad.path for bad in damaged] == [checkpoint_path(tmp_path, 10)] and reason in damaged[0].reason
    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(checkpoint_path(tmp_path, 10), IDENTITY)


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path):
    save(tmp_path, 5, 10)
    tamper(checkpoint_path(tmp_path, 10))
    save(tmp_path, 10)
    assert newest_whole(tmp_path) == (checkpoint_path(tmp_path, 10), [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000005", "step-00000010"]


def test_another_config_or_data_is_refused_with_the_differences(tmp_path):
    save(tmp_path, 5)
    with pytest.raises(ValueError, match=r"data was def and is xyz; new was absent and is 1") as caught:
        load_checkpoint(checkpoint_path(tmp_path, 5), {"config": "abc", "data": "xyz", "new": "1"})
    assert "config was" not in str(caught.value)


def test_a_full_disk_leaves_a_sentence_and_no_partial_file(tmp_path):
    save(tmp_path, 5)
    with full_disk(100), pytest.raises(OSError, match=r"step 10 .*run the same command again"):
        save(tmp_path, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]
    assert newest_whole(tmp_path)[0] == checkpoint_path(tmp_path, 5)
    save(tmp_path, 10)
    assert newest_whole(tmp_path) == (checkpoint_path(tmp_path, 10), [])


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path):
    """A killed writer leaves a hidden folder, never taken for a checkpoint and cleared at the next start."""
    save(tmp_path, 5)
    shutil.copytree(checkpoint_path(tmp_path, 5), tmp_path / ".writing-abc")
    assert newest_whole(tmp_path) == (checkpoint_path(tmp_path, 5), [])
    clear_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]


def test_another_run_adopts_a_checkpoint_without_copying_its_tensors(tmp_path):
    save(tmp_path / "old", 5)
    source = checkpoint_path(tmp_path / "old", 5)
    path = adopt_checkpoint(source, tmp_path / "new", {"config": "xyz"}, {"past": "old"})
    assert (path / "tensors.safetensors").samefile(source / "tensors.safetensors")
    found = load_checkpoint(path, {"config": "xyz"})
    assert found.facts == {"n": [5], "past": "old"} and torch.equal(found.tensors["model/w"], torch.full((3,), 5.0))
    assert read_state(source).identity == IDENTITY, "the source is as it was"
    tamper(source)
    with pytest.raises(ValueError, match="is damaged"):
        adopt_checkpoint(source, tmp_path / "other", {}, {})
