"""Checkpoints that a thread writes, while what they hold goes on changing."""

import subprocess
import sys

import psutil
import pytest
import torch

from lorweb.training.state import Snapshot, checkpoint_path, load_checkpoint, newest_whole
from lorweb.training.writer import Retention, Writer
from tests.harm import full_disk, kill_while

KEEP = Retention(10, None)
IDENTITY = {"config": "1"}


def snapshot(step, tensors):
    return Snapshot(step, IDENTITY, tensors, {})


def stored(folder, step):
    return load_checkpoint(checkpoint_path(folder, step), IDENTITY).tensors["w"]


def test_what_changes_after_the_call_is_not_in_the_checkpoint(tmp_path):
    weight = torch.zeros(1 << 22)
    with Writer(tmp_path, background=True) as writer:
        for step in range(1, 4):
            writer.save(snapshot(step, {"w": weight.clone()}), KEEP)
            weight += 1
    assert [float(stored(tmp_path, step).max()) for step in (1, 2, 3)] == [0, 1, 2]
    assert all(stored(tmp_path, step).min() == stored(tmp_path, step).max() for step in (1, 2, 3))


@pytest.mark.parametrize("background", [False, True])
def test_the_next_save_waits_for_the_one_before(tmp_path, background):
    with Writer(tmp_path, background) as writer:
        writer.save(snapshot(1, {"w": torch.zeros(1 << 22)}), KEEP)
        writer.save(snapshot(2, {"w": torch.zeros(1 << 22)}), KEEP)
        assert newest_whole(tmp_path)[0] in [checkpoint_path(tmp_path, step) for step in (1, 2)]
        writer.wait()
        assert [landed.step for landed in writer.written()] == [1, 2] and writer.written() == []
    assert newest_whole(tmp_path) == (checkpoint_path(tmp_path, 2), [])


def test_a_failed_write_is_told_at_the_next_save(tmp_path):
    with Writer(tmp_path, background=True) as writer:
        writer.save(snapshot(1, {"w": torch.zeros(9)}), KEEP)
        writer.wait()
        with full_disk(100):
            writer.save(snapshot(2, {"w": torch.zeros(999)}), KEEP)
            with pytest.raises(OSError, match="cannot write the checkpoint of step 2"):
                writer.save(snapshot(3, {"w": torch.zeros(999)}), KEEP)
        writer.save(snapshot(4, {"w": torch.zeros(9)}), KEEP)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "4"]


def test_a_failed_write_is_told_at_the_end(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="step 1 "), Writer(tmp_path / "file", background=True) as writer:
        writer.save(snapshot(1, {"w": torch.zeros(9)}), KEEP)


def test_the_failure_of_the_training_is_told_before_that_of_a_write(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.warns(UserWarning, match="step 1 "),
        pytest.raises(KeyError, match="first"),
        Writer(tmp_path / "file", background=True) as writer,
    ):
        writer.save(snapshot(1, {"w": torch.zeros(9)}), KEEP)
        raise KeyError("first")


WRITES = """
import sys, torch
from pathlib import Path
from tests.training.test_writer import KEEP, Writer, snapshot
tensors = {"w": torch.zeros(1 << 24)}
with Writer(Path(sys.argv[1]), background=sys.argv[2] == "True") as writer:
    for step in range(1, 50):
        writer.save(snapshot(step, dict(tensors)), KEEP)
"""


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_a_kill_amid_a_write_leaves_the_one_before(tmp_path, background):
    child = subprocess.Popen([sys.executable, "-c", WRITES, str(tmp_path), str(background)])

    def amid():
        return checkpoint_path(tmp_path, 2).exists() and any(tmp_path.glob(".writing-*/tensors.safetensors"))

    assert kill_while([psutil.Process(child.pid)], amid, 100), "it was not killed amid a write"
    child.wait()
    path, damaged = newest_whole(tmp_path)
    assert path is not None and not damaged and int(path.name[-8:]) >= 2
