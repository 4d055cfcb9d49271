"""Activations that wait in host memory: which tensors go there, and that nothing else changes."""

import pytest
import torch
from torch import nn

from lorweb.training import offload
from lorweb.training.step import take_step
from tests.training.made import equal, make_run, train_section, weights, write_data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_three_steps_are_the_same_bits(folders, checkpointing):
    options = {"gradient_checkpointing": checkpointing, "accumulate": 2}
    runs = [make_run(folders, train_section(offload_activations=on, **options)) for on in (False, True)]
    losses = [[take_step(run, step).loss for step in range(3)] for run in runs]
    assert losses[0] == losses[1] and equal(*map(weights, runs))


@pytest.fixture
def moved(monkeypatch):
    """Sizes of what would leave a GPU; small tensors too, as those of tests are."""
    found = []
    monkeypatch.setattr(offload, "_SMALL", 0)
    original = offload._away

    def away(weights_, tensor):
        found.extend([tuple(tensor.shape)] if offload.moves(weights_, tensor) else [])
        return original(weights_, tensor)

    monkeypatch.setattr(offload, "_away", away)
    return found


def test_weights_stay_and_activations_go(moved):
    """A frozen linear keeps its weight for backward, a trained one its input too."""
    frozen, trained = nn.Linear(6, 5).requires_grad_(False), nn.Linear(5, 4)
    x = torch.randn(2, 7, 6, requires_grad=True)
    with offload.offloading(nn.ModuleList([frozen, trained])):
        y = trained(frozen(x).relu()).square().sum()
    y.backward()
    assert moved and not {(6, 5), (5, 6), (5, 4), (4, 5)} & set(moved), moved
    assert {(2, 7, 5), (14, 5)} & set(moved), "what relu made, and the trained linear took"


def test_with_checkpointing_the_inputs_of_blocks_are_all_that_goes(folders, moved):
    counts = {}
    for checkpointing in (False, True):
        moved.clear()
        options = {"offload_activations": True, "gradient_checkpointing": checkpointing}
        take_step(make_run(folders, train_section(**options)), 0)
        counts[checkpointing] = sum(torch.Size(shape).numel() for shape in moved)
    assert 0 < counts[True] < counts[False] / 5, counts
