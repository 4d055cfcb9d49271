"""How the state of what is trained is shared out, at the paper's size on the meta device: training's own rule."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorweb.plan.model import Others, read_model
from lorweb.plan.setting import read_setting
from lorweb.plan.state import own_tensors
from lorweb.profiles import load_profile
from lorweb.sizes import KONTEXT, meta_transformer
from lorweb.training.baseline import new_variant
from lorweb.training.pieces import cut
from lorweb.training.sharding import owners
from lorweb.training.variants import basis_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("workers", [2, 8, 16])
def test_shares_are_those_that_training_deals_out(workers) -> None:
    config = load_profile(ROOT, "paper").train.model_copy(update={"workers": workers, "batch_size": workers})
    transformer = meta_transformer(KONTEXT)
    basis = basis_config(config.basis, 2304, "cat-aa'b")
    with torch.device("meta"):
        variant = new_variant("lorweb", transformer, basis, 0)
    pieces = cut(variant.parameters, workers)
    loads = [0] * workers
    for piece, owner in zip(pieces, owners(pieces, workers), strict=True):
        loads[owner] += piece.values.numel()
    model = read_model(meta_transformer(KONTEXT), basis, Others(0, 0))
    ours = sum(t.values for t in own_tensors(model, replace(read_setting(config), sharding="zero1"), shared=True))
    assert sum(loads) == 835_051_520 and ours == pytest.approx(max(loads), rel=0.02)
