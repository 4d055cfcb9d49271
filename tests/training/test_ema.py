"""The running average: diffusers' own as oracle, and that it never touches training."""

import pytest
import torch
from torch import nn

from lorweb.training import state
from lorweb.training.ema import Ema, ema_decay
from lorweb.training.loop import Keeper, train
from lorweb.training.step import take_step
from lorweb.training.validation import validate
from tests.training.made import equal, held_out, make_run, train_section, weights, write_data
from tests.training.test_loop import IDENTITY, Recorder, finish


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_it_is_the_average_that_diffusers_computes(decay):
    from diffusers.training_utils import EMAModel

    generator = torch.Generator().manual_seed(0)
    parameters = {"a": nn.Parameter(torch.zeros(3, 2)), "b": nn.Parameter(torch.ones(5))}
    ours, theirs = Ema(decay, parameters), EMAModel(parameters.values(), decay=decay)
    for step in range(12):
        for parameter in parameters.values():
            parameter.data += torch.randn(parameter.shape, generator=generator)
        ours.update(parameters, step)
        theirs.step(parameters.values())
        assert theirs.cur_decay_value == pytest.approx(ema_decay(decay, step))
    for found, expected in zip(ours.values.values(), theirs.shadow_params, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_start_does_not_hang_in_the_average():
    decays = [ema_decay(0.9, step) for step in range(200)]
    assert decays[0] == 0.0 and decays[1] == pytest.approx(2 / 11) and decays == sorted(decays) and decays[-1] == 0.9


def test_training_is_the_same_to_the_bit_and_the_average_is_another(folders):
    plain, averaging = (make_run(folders, train_section(ema=ema)) for ema in (None, 0.9))
    losses = [[take_step(run, step).loss for step in range(4)] for run in (plain, averaging)]
    assert losses[0] == losses[1] and equal(weights(plain), weights(averaging))
    assert not any(torch.equal(value, averaging.ema.values[name]) for name, value in weights(averaging).items())


def test_the_weights_are_back_whatever_happens(folders):
    run = make_run(folders, train_section(ema=0.9))
    for step in range(3):
        take_step(run, step)
    before, average = weights(run), {name: value.clone() for name, value in run.ema.values.items()}
    with pytest.raises(KeyboardInterrupt), run.averaged():
        assert equal(weights(run), average)
        raise KeyboardInterrupt
    assert equal(weights(run), before) and equal(run.ema.values, average)


@pytest.mark.slow
def test_validation_is_of_the_average_and_a_killed_run_resumes_bit_for_bit(folders, tmp_path):
    whole, told, _ = finish(folders, tmp_path / "whole", ema=0.9)
    cut = make_run(folders, train_section(ema=0.9))
    with pytest.raises(KeyboardInterrupt):
        train(cut, held_out(folders), Keeper(tmp_path / "cut", IDENTITY), Recorder(7))
    resumed, retold, hooks = finish(folders, tmp_path / "cut", ema=0.9)
    assert hooks.steps == list(range(6, 11)) and told == retold
    assert equal(weights(whole), weights(resumed)) and equal(whole.ema.values, resumed.ema.values)
    files = [state.checkpoint_path(tmp_path / kind, 10) / "tensors.safetensors" for kind in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with whole.averaged():
        assert validate(whole, held_out(folders)[0]) == told.last("seen")
    assert validate(whole, held_out(folders)[0]) != told.last("seen")


def test_a_checkpoint_without_average_is_refused(folders, tmp_path):
    finish(folders, tmp_path)
    with pytest.raises(ValueError, match="checkpoint and model differ"):
        finish(folders, tmp_path, ema=0.9)
