"""Early stopping and the best step: rules over validation losses alone, the same before and after a kill."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.training import state
from lorweb.training.course import restore_published
from lorweb.training.limits import Stop
from lorweb.training.loop import Keeper, train
from lorweb.training.stopping import best_step, gone_without_gain, is_over, published_step
from tests.training.made import equal, held_out, make_run, train_section, weights, write_data
from tests.training.test_loop import Recorder

STOP = {"patience": 2, "split": "unseen", "min_delta": 0.0}
HOPELESS = {**STOP, "min_delta": 100.0}  # no loss falls by so much


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def rows(losses, split="unseen"):
    return [{"step": 10 * i, "split": split, "loss": loss} for i, loss in enumerate(losses)]


def test_patience_counts_validations_since_the_last_gain():
    stop = Stop(**STOP)
    assert gone_without_gain([], stop) == 0 and gone_without_gain(rows([1.0]), stop) == 0
    assert gone_without_gain(rows([1.0, 1.0]), stop) == 1, "an equal loss is no gain"
    assert gone_without_gain(rows([1.0, 1.2, 1.1]), stop) == 2
    assert gone_without_gain(rows([1.0, 1.2, 0.9]), stop) == 0
    near = stop.model_copy(update={"min_delta": 0.1})
    assert gone_without_gain(rows([1.0, 0.95, 0.89]), near) == 0, "small gains add up: the best stays where it was"
    assert gone_without_gain(rows([1.0, 0.95, 0.91]), near) == 2


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(1, 4), st.integers(0, 3))
def test_patience_is_that_of_a_reading_backwards(losses, patience, min_delta):
    """Over once the best of all before lies so far back that nothing since has beaten it, at any moment."""
    section = train_section(stop={**STOP, "patience": patience, "min_delta": min_delta})
    found = is_over(rows(losses), section)
    last_gain = 0
    for i in range(1, len(losses)):
        if losses[i] < losses[last_gain] - min_delta:
            last_gain = i
    assert found == (bool(losses) and len(losses) - 1 - last_gain >= patience)


def test_other_splits_and_no_stop_have_no_say():
    assert not is_over(rows([1, 2, 3, 4]), train_section())
    section = train_section(stop=STOP)
    assert is_over(rows([1, 2, 3]), section)
    for split in ("seen", "unseen_shuffled", "test"):
        assert not is_over(rows([1, 2, 3, 4], split), section)


def test_the_best_step_is_the_earliest_lowest_and_never_the_start():
    assert best_step(rows([0.1, 0.5, 0.4, 0.4, 0.6]), "unseen") == 20
    assert best_step(rows([0.1]), "unseen") is None and best_step(rows([0.5, 0.4], "seen"), "unseen") is None
    best = train_section(publish="best", keep_best="unseen")
    assert published_step(rows([0.1, 0.5, 0.4, 0.6]), 40, best) == 20
    assert published_step(rows([0.1, 0.5, 0.4, 0.6]), 40, train_section(keep_best="unseen")) == 40


def test_the_best_needs_a_split():
    with pytest.raises(ValueError, match=r"publish is 'best', but keep_best is null.* give it seen or unseen"):
        train_section(publish="best")


@pytest.mark.slow
def test_the_best_checkpoint_stays_and_its_weights_are_published(folders, tmp_path):
    """Four tasks and large steps: after a while the tasks that are never trained get worse."""
    optimizer = {**train_section().optimizer.model_dump(), "learning_rate": 0.3, "warmup_steps": 12}
    changes = {"steps": 12, "validate_every": 2, "checkpoint_every": 4, "keep_best": "unseen", "publish": "best"}
    section = train_section(optimizer=optimizer, **changes)
    run = make_run(folders, section)
    told = train(run, held_out(folders), Keeper(tmp_path, {}), Recorder())
    best = best_step(told.validation, "unseen")
    assert best == 6 and told.step == 12, "neither of the two newest checkpoints, nor one that was due"
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"step-{s:08d}" for s in (best, 8, 12)]
    cut = make_run(folders, section.model_copy(update={"steps": best}))
    train(cut, held_out(folders), Keeper(tmp_path / "short", {}), Recorder())
    assert not equal(weights(run), weights(cut))
    assert restore_published(run, Keeper(tmp_path, {}), told) == best and equal(weights(run), weights(cut))
    shutil.rmtree(state.checkpoint_path(tmp_path, best))
    with pytest.raises(ValueError, match=r"was the best by validation, but .* train.publish to last and go on with"):
        restore_published(run, Keeper(tmp_path, {}), told)


def stopped(folders, folder, hooks, **changes):
    section = train_section(**{"steps": 40, "validate_every": 4, "checkpoint_every": 10, "stop": HOPELESS, **changes})
    run = make_run(folders, section)
    return run, train(run, held_out(folders), Keeper(folder, {}), hooks)


def test_a_run_ends_at_the_validation_that_used_up_its_patience_with_a_checkpoint(folders, tmp_path):
    hooks = Recorder()
    run, told = stopped(folders, tmp_path, hooks)
    assert told.step == 8 and hooks.saves == [8], "validations at 0, 4 and 8; patience 2"
    assert [row["step"] for row in told.validation if row["split"] == "unseen"] == [0, 4, 8]
    assert state.newest_whole(tmp_path)[0] == state.checkpoint_path(tmp_path, 8)
    again, hooks = make_run(folders, run.config), Recorder()
    assert train(again, held_out(folders), Keeper(tmp_path, {}), hooks) == told and hooks.steps == []
    assert equal(weights(run), weights(again))


@pytest.mark.slow
def test_a_resumed_run_stops_where_an_undisturbed_one_does(folders, tmp_path):
    changes = {"checkpoint_every": 3}
    whole, told = stopped(folders, tmp_path / "whole", Recorder(), **changes)
    with pytest.raises(KeyboardInterrupt):
        stopped(folders, tmp_path / "cut", Recorder(7), **changes)
    hooks = Recorder()
    resumed, retold = stopped(folders, tmp_path / "cut", hooks, **changes)
    assert hooks.steps == [7, 8] and told == retold and equal(weights(whole), weights(resumed))


@pytest.mark.slow
def test_steps_before_the_stop_are_those_of_a_run_without_it(folders, tmp_path):
    _, told = stopped(folders, tmp_path / "stop", Recorder())
    _, free = stopped(folders, tmp_path / "free", Recorder(), stop=None)
    assert free.step == 40 and told.curves["loss"] == free.curves["loss"][:8]


def test_a_split_without_analogies_cannot_stop_a_run(folders, tmp_path):
    seen, _ = held_out(folders)
    for changes, key in (({"stop": STOP}, "train.stop.split"), ({"keep_best": "unseen"}, "train.keep_best")):
        run = make_run(folders, train_section(**changes))
        with pytest.raises(ValueError, match=f"{key} is unseen, but the splits .* are seen; take one of them, or null"):
            train(run, [seen], Keeper(tmp_path, {}), Recorder())


def test_what_is_no_number_is_never_the_best():
    assert best_step(rows([0.1, float("nan"), 0.3, 0.2]), "unseen") == 30
    assert best_step(rows([0.1, float("nan")]), "unseen") is None
