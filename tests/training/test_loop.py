import pytest
import torch

from lorweb.training import loop, state
from lorweb.training.loop import History, Keeper, train
from tests.training.made import equal, held_out, make_run, train_section, weights, write_data

IDENTITY = {"config": "1", "data": "2"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


class Recorder:
    """Hooks that write down what happens, and stop like a kill after a given step."""

    def __init__(self, stop_after=None):
        self.steps, self.saves, self.stop_after = [], [], stop_after

    def stepped(self, step, result):
        self.steps.append(step)
        if step == self.stop_after:
            raise KeyboardInterrupt

    def measured(self, history):
        assert history.validation[-1]["step"] == history.step

    def saved(self, history):
        self.saves.append(history.step)


def finish(folders, folder, name="lorweb", **changes):
    run, hooks = make_run(folders, train_section(**changes), name), Recorder()
    return run, train(run, held_out(folders), Keeper(folder, IDENTITY), hooks), hooks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lorweb", "single_lora"])
@pytest.mark.parametrize("stop_after", [5, 7])
def test_ten_steps_are_five_and_a_kill_and_the_rest_bit_for_bit(folders, tmp_path, name, stop_after):
    whole, told, _ = finish(folders, tmp_path / "whole", name)
    with pytest.raises(KeyboardInterrupt):
        train(
            make_run(folders, train_section(), name),
            held_out(folders),
            Keeper(tmp_path / "cut", IDENTITY),
            Recorder(stop_after),
        )
    resumed, retold, hooks = finish(folders, tmp_path / "cut", name)
    assert hooks.steps == (list(range(1, 11)) if stop_after == 5 else list(range(6, 11)))
    assert equal(weights(whole), weights(resumed))
    assert told == retold
    files = [state.checkpoint_path(tmp_path / kind, 10) / "tensors.safetensors" for kind in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


ROUTERS = {"shared": {"projection": "shared"}, "internal": {"internal": {"mode": "caa'b", "pooling": "avg"}}}


@pytest.mark.slow
@pytest.mark.parametrize("changes", ROUTERS.values(), ids=list(ROUTERS))
def test_other_routers_train_and_resume_bit_for_bit(folders, tmp_path, changes):
    section = {"basis": {**train_section().basis.model_dump(), **changes}}
    whole, told, _ = finish(folders, tmp_path / "whole", **section)
    with pytest.raises(KeyboardInterrupt):
        cut = make_run(folders, train_section(**section))
        train(cut, held_out(folders), Keeper(tmp_path / "cut", IDENTITY), Recorder(7))
    resumed, retold, _ = finish(folders, tmp_path / "cut", **section)
    assert equal(weights(whole), weights(resumed)) and told == retold
    assert bool(told.health) == ("projection" in changes), "internal queries have no mix to look at"
    begin = weights(make_run(folders, train_section(**section)))
    assert not any(torch.equal(begin[name], value) for name, value in weights(whole).items()), (
        "something was not trained"
    )


def test_a_finished_run_has_nothing_left_to_do(folders, tmp_path):
    first, told, _ = finish(folders, tmp_path)
    again, retold, hooks = finish(folders, tmp_path)
    assert hooks.steps == [] and hooks.saves == [] and told == retold
    assert equal(weights(first), weights(again))


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(folders, tmp_path):
    whole, told, _ = finish(folders, tmp_path)
    with (state.checkpoint_path(tmp_path, 10) / "tensors.safetensors").open("r+b") as file:
        file.truncate(100)
    with pytest.warns(UserWarning, match="step-00000010"):
        resumed, retold, hooks = finish(folders, tmp_path)
    assert hooks.steps == list(range(6, 11)) and told == retold and equal(weights(whole), weights(resumed))
    assert state.newest_whole(tmp_path) == (state.checkpoint_path(tmp_path, 10), [])


def test_another_config_is_refused(folders, tmp_path):
    finish(folders, tmp_path)
    run = make_run(folders, train_section())
    with pytest.raises(ValueError, match="config was 1 and is 9"):
        train(run, held_out(folders), Keeper(tmp_path, {**IDENTITY, "config": "9"}), Recorder())


def test_a_checkpoint_of_another_variant_is_refused(folders, tmp_path):
    finish(folders, tmp_path, "single_lora")
    with pytest.raises(ValueError, match="checkpoint and model differ"):
        finish(folders, tmp_path, "lorweb")


def test_milestones(folders, tmp_path):
    _, told, hooks = finish(folders, tmp_path, steps=7, checkpoint_every=3, validate_every=4)
    assert hooks.steps == list(range(1, 8)) and hooks.saves == [3, 6, 7]
    splits = ["seen", "seen_shuffled", "unseen", "unseen_shuffled"]
    assert [(row["step"], row["split"]) for row in told.validation] == [
        (step, split) for step in (0, 4, 7) for split in splits
    ]
    assert [row["step"] for row in told.health] == [0, 4, 7]
    assert all(len(told.curves[name]) == 7 for name in loop.CURVES)
    assert [row["loss"] for row in told.validation if row["split"] == "unseen"][-1] == told.last("unseen")
    assert History().last("seen") is None


def test_both_variants_see_the_same_data_noise_and_timesteps(folders, tmp_path):
    """B = 0 in both at the start, so everything that can be measured at step 0 is equal."""
    (_, first, _), (_, second, _) = (
        finish(folders, tmp_path / name, name, steps=1) for name in ("lorweb", "single_lora")
    )
    assert first.curves["loss"] == second.curves["loss"]
    before = [[row for row in told.validation if row["step"] == 0] for told in (first, second)]
    assert before[0] == before[1] and len(before[0]) == 4


@pytest.mark.slow
def test_training_learns_and_comes_to_depend_on_the_exemplar(folders, tmp_path):
    _, told, _ = finish(folders, tmp_path, steps=120, batch_size=8, validate_every=120, checkpoint_every=120)
    start = {row["split"]: row["loss"] for row in told.validation if row["step"] == 0}
    assert told.last("seen") < 0.8 * start["seen"]
    gap = told.last("seen_shuffled") - told.last("seen")
    assert gap > 0.05 * told.last("seen") and gap > 2 * abs(start["seen_shuffled"] - start["seen"])
    assert told.health[-1]["mix_spread"] > 0 and told.health[-1]["effective_loras"] <= 4.0 + 1e-6


def test_a_plain_lora_has_no_router_to_watch(folders, tmp_path):
    _, told, _ = finish(folders, tmp_path, "single_lora", steps=1)
    assert told.health == [] and set(told.curves["router_gradient_norm"]) == {0.0}


def test_more_workers_than_analogies_are_refused(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("lorweb.training.reduce.world", lambda: (0, 9))
    with pytest.raises(ValueError, match="9 workers for a batch of 4"):
        finish(folders, tmp_path)


def test_moments_survive_the_checkpoint(folders, tmp_path):
    run, _, _ = finish(folders, tmp_path)
    tensors = state.load_checkpoint(state.checkpoint_path(tmp_path, 10), IDENTITY).tensors
    for name, parameter in run.variant.parameters.items():
        assert torch.equal(tensors[f"optimizer/{name}/exp_avg_sq"], run.optimizer.state[parameter]["exp_avg_sq"])
        assert tensors[f"optimizer/{name}/step"] == 10
