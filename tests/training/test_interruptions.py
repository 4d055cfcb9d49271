"""A run that is told to stop, fills the disk or writes beside the training ends with the bits of one left in peace."""

import random

import numpy as np
import pytest
import torch

from lorweb.training import state
from lorweb.training.loop import Keeper, Stopped, train
from lorweb.training.step import take_step
from lorweb.training.validation import validate
from tests.harm import full_disk
from tests.training.made import equal, held_out, make_run, train_section, weights, write_data

pytestmark = pytest.mark.slow

IDENTITY = {"config": "1", "data": "2"}
SHORT = {"steps": 4, "validate_every": 2, "checkpoint_every": 3, "keep_checkpoints": 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    """Weights, history and checkpoint files of SHORT, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run, told, _ = advance(folders, folder)
    return weights(run), told, files(folder, 4)


class Recorder:
    """Hooks that write down what they hear."""

    def __init__(self):
        self.steps, self.measures, self.saves = [], [], []

    def stepped(self, step, result):
        self.steps.append(step)

    def measured(self, history):
        self.measures.append(history.step)

    def saved(self, history):
        self.saves.append(history.step)


def short(**changes):
    """The section of SHORT, changed."""
    return train_section(**{**SHORT, **changes})


def advance(folders, folder, stop=lambda: False, **changes):
    run, hooks = make_run(folders, short(**changes)), Recorder()
    return run, train(run, held_out(folders), Keeper(folder, IDENTITY), hooks, stop), hooks


def files(folder, step):
    """Names and bytes of a checkpoint."""
    return {path.name: path.read_bytes() for path in state.checkpoint_path(folder, step).iterdir()}


def after(asks):
    """A `stop` that says yes from the given question on; the first is number 0."""
    count = iter(range(10_000))
    return lambda: next(count) >= asks


ASKS = 4 + 2 + 4 + 2 + 4  # before 4 validation sets, 2 steps, 4 sets, 2 steps, 4 sets


@pytest.mark.parametrize("asks", range(ASKS))
def test_stopped_at_any_question_it_goes_on_bit_for_bit(folders, whole, tmp_path, asks):
    with pytest.raises(Stopped) as stopped:
        advance(folders, tmp_path, after(asks))
    done = stopped.value.step
    newest = state.newest_whole(tmp_path)[0]
    assert newest == (state.checkpoint_path(tmp_path, done) if done else None)
    resumed, retold, hooks = advance(folders, tmp_path)
    assert hooks.steps == list(range(done + 1, 5))
    assert equal(weights(resumed), whole[0]) and retold == whole[1] and files(tmp_path, 4) == whole[2]


def test_a_checkpoint_that_lies_there_is_not_written_again(folders, tmp_path):
    run, hooks = make_run(folders, train_section(**{**SHORT, "checkpoint_every": 1})), Recorder()
    with pytest.raises(Stopped) as stopped:
        train(run, held_out(folders), Keeper(tmp_path, IDENTITY), hooks, lambda: bool(hooks.saves))
    assert stopped.value.step == 1 and hooks.saves == [1]


def test_nothing_asks_after_the_last_validation(folders, tmp_path):
    assert advance(folders, tmp_path, after(ASKS))[1].step == 4


def test_stopped_again_and_again_it_comes_to_the_same_end(folders, whole, tmp_path):
    for _ in range(10):
        try:
            resumed, retold, _ = advance(folders, tmp_path, after(5))
            break
        except Stopped:
            continue
    assert equal(weights(resumed), whole[0]) and retold == whole[1]


def test_a_checkpoint_written_beside_the_training_holds_the_same_bytes(folders, whole, tmp_path):
    run, told, hooks = advance(folders, tmp_path, async_checkpoints=True, keep_checkpoints=9)
    assert equal(weights(run), whole[0]) and told == whole[1]
    assert files(tmp_path, 4) == whole[2] and hooks.saves == [3, 4]
    advance(folders, tmp_path / "at once", steps=4, keep_checkpoints=9)
    assert files(tmp_path, 3) == files(tmp_path / "at once", 3), "taken at its step, not when it was written"


@pytest.mark.parametrize("beside", [False, True])
def test_a_full_disk_is_one_sentence_and_the_next_start_goes_on(folders, whole, tmp_path, beside):
    room = max(len(content) for content in _files_after(folders, tmp_path, steps=3).values())
    with full_disk(room), pytest.raises(OSError, match=r"checkpoint of step 4 .*run the same command again"):
        advance(folders, tmp_path, async_checkpoints=beside)
    assert state.newest_whole(tmp_path) == (state.checkpoint_path(tmp_path, 3), [])
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"], "no partial file is left"
    resumed, retold, hooks = advance(folders, tmp_path)
    assert hooks.steps == [4] and equal(weights(resumed), whole[0]) and retold == whole[1]


def _files_after(folders, folder, steps):
    """Checkpoint of SHORT after some of its steps."""
    with pytest.raises(Stopped):
        advance(folders, folder, after(4 + 2 + 4 + steps - 2))
    return files(folder, steps)


def test_the_best_checkpoint_by_validation_stays(folders, tmp_path):
    wild = {"optimizer": {**train_section().optimizer.model_dump(), "learning_rate": 0.3}}
    changes = {"steps": 20, "validate_every": 2, "checkpoint_every": 20}
    _, told, hooks = advance(folders, tmp_path, keep_best="unseen", **changes, **wild)
    losses = {row["step"]: row["loss"] for row in told.validation if row["split"] == "unseen" and row["step"]}
    best = min(losses, key=losses.__getitem__)
    assert told.best("unseen") == best < 20, "the last step is the best: this test shows nothing"
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-{best:08d}", "step-00000020"]
    lowest = [s for s in losses if losses[s] == min(loss for step, loss in losses.items() if step <= s)]
    assert hooks.saves == sorted({*lowest, 20}), "one checkpoint for every new best, and the last"


def test_a_best_checkpoint_needs_its_split(folders, tmp_path):
    run = make_run(folders, train_section(keep_best="unseen"))
    with pytest.raises(ValueError, match=r"keep_best is unseen, but the splits with validation analogies are seen"):
        train(run, held_out(folders)[:1], Keeper(tmp_path, IDENTITY), Recorder())


def test_no_global_random_number_is_drawn(folders):
    """Therefore no checkpoint holds the state of a generator."""
    run = make_run(folders, train_section(caption_dropout=0.5))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    take_step(run, 0)
    validate(run, held_out(folders)[0])
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
