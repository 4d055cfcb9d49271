"""Training on a GPU: losses as on the CPU, options that learn alike, whole checkpoints, memory that is saved."""

import pytest
import torch

from lorweb.training.kernels import use_repeatable_kernels
from lorweb.training.step import take_step
from lorweb.training.tensors import pack, unpack
from tests.training.made import equal, make_run, train_section, weights, write_data

pytestmark = pytest.mark.gpu
ADAMW = {"learning_rate": 0.01, "router_multiplier": 1.0, "betas": [0.9, 0.99], "eps": 1.0e-6, "weight_decay": 0.05}
ADAMW |= {"max_grad_norm": 1.0, "warmup_steps": 2, "schedule": "cosine", "prodigy": None}
PRODIGY = {"name": "prodigy", "learning_rate": 1.0, "prodigy": {"d0": 1.0e-4, "d_coef": 1.0}}
STEPS = 6
OPTIONS = {
    "adamw": ({"optimizer": ADAMW | {"name": "adamw"}}, 1e-4),
    "adamw_8bit": ({"optimizer": ADAMW | {"name": "adamw_8bit"}}, 0.02),
    "accumulate": ({"accumulate": 4}, 1e-4),
    "gradient_checkpointing": ({"gradient_checkpointing": True}, 1e-5),
    "offload_activations": ({"offload_activations": True}, 1e-5),
    "offload and checkpointing": ({"offload_activations": True, "gradient_checkpointing": True}, 1e-5),
    "int8": ({"base_weights": "int8"}, 1e-2),
    "bfloat16": ({"precision": "bfloat16"}, 0.05),
    "bfloat16 and int8": ({"precision": "bfloat16", "base_weights": "int8"}, 0.05),
    "ema": ({"ema": 0.9}, 0.0),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    use_repeatable_kernels()
    return write_data(tmp_path_factory.mktemp("data"))


def losses(run, first=0, last=STEPS):
    return [take_step(run, step).loss for step in range(first, last)]


@pytest.fixture(scope="module")
def plain(folders):
    return losses(make_run(folders, train_section(), device="cuda"))


def test_losses_are_those_of_the_cpu(folders, plain):
    assert plain == pytest.approx(losses(make_run(folders, train_section())), rel=1e-3)


def test_the_same_run_again_gives_the_same_bits(folders, plain):
    assert losses(make_run(folders, train_section(), device="cuda")) == plain


@pytest.mark.parametrize("name", list(OPTIONS))
def test_an_option_learns_as_the_plain_run_does(folders, plain, name):
    changes, tolerance = OPTIONS[name]
    run = make_run(folders, train_section(**changes), device="cuda")
    assert losses(run) == pytest.approx(plain, rel=tolerance, abs=0)


def test_prodigy_learns(folders, plain):
    found = losses(make_run(folders, train_section(optimizer=ADAMW | PRODIGY), device="cuda"))
    assert found[0] == plain[0] and all(torch.isfinite(torch.tensor(found)))


@pytest.mark.parametrize("optimizer", ["adamw_fused", "adamw", "adamw_8bit", "prodigy"])
def test_state_goes_through_a_checkpoint_bit_for_bit(folders, optimizer):
    own = PRODIGY if optimizer == "prodigy" else {"name": optimizer}
    config = train_section(optimizer=ADAMW | own, ema=0.9)
    whole, again = (make_run(folders, config, device="cuda") for _ in range(2))
    losses(whole, 0, 3)
    stored = {name: value.clone() for name, value in pack(whole.variant.parameters, whole.optimizer, whole.ema).items()}
    assert stored and all(value.device.type == "cpu" for value in stored.values())
    unpack(stored, again.variant.parameters, again.optimizer, again.ema)
    assert losses(whole, 3) == losses(again, 3)
    assert equal(weights(whole), weights(again))


@pytest.mark.parametrize("option", ["gradient_checkpointing", "offload_activations", "accumulate"])
def test_options_that_save_memory_do(folders, option):
    peaks = []
    for changes in ({}, {option: 8 if option == "accumulate" else True}):
        run = make_run(folders, train_section(batch_size=32, **changes), device="cuda")
        take_step(run, 0)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        take_step(run, 1)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 0.8 * peaks[0], peaks
