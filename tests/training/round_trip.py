"""Three steps, a file, a fresh run, three more steps: what every optimiser has to survive."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lorweb.training.packages import PACKAGES
from lorweb.training.step import take_step
from lorweb.training.tensors import pack, unpack
from tests.training.made import Folders, equal, make_run, train_section, weights

PRODIGY = {"learning_rate": 1.0, "prodigy": {"d0": 1e-4, "d_coef": 1.0}}


def optimizer_section(name: str) -> dict[str, Any]:
    """The test section's optimiser under another name."""
    assert name in PACKAGES or name.startswith("adamw")
    return {**train_section().optimizer.model_dump(), "name": name, **(PRODIGY if name == "prodigy" else {})}


def assert_goes_on_bit_for_bit(folders: Folders, path: Path, name: str, variant: str) -> dict[str, torch.Tensor]:
    """Asserts it, and returns what the file held after three steps."""
    # wide enough that the moments of some layers have the 4,096 values from which on they are stored in 8 bits
    basis = {**train_section().basis.model_dump(), "n_loras": 16, "rank": 8}
    config = train_section(optimizer=optimizer_section(name), ema=0.9, basis=basis)
    whole, resumed = (make_run(folders, config, variant) for _ in range(2))
    losses = [take_step(whole, step).loss for step in range(3)]
    save_file(pack(whole.variant.parameters, whole.optimizer, whole.ema), path)
    tensors = load_file(path)
    unpack(tensors, resumed.variant.parameters, resumed.optimizer, resumed.ema)
    again = pack(resumed.variant.parameters, resumed.optimizer, resumed.ema)
    assert again.keys() == tensors.keys() and all(torch.equal(again[key], tensors[key]) for key in tensors)
    assert all(again[key].dtype == tensors[key].dtype for key in tensors)
    more = [[take_step(run, step).loss for step in range(3, 6)] for run in (whole, resumed)]
    assert more[0] == more[1] and len(set(losses + more[0])) == 6
    assert equal(weights(whole), weights(resumed)) and equal(whole.ema.values, resumed.ema.values)
    return tensors
