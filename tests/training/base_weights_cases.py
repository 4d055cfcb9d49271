"""Training on a quantised base. Run by test_base_weights.py in a process that sees the package."""

import os

import pytest
import torch
from PIL import Image

from lorweb.basis import analogy
from lorweb.kontext.load import load_base
from lorweb.training.baseline import load_variant
from lorweb.training.frozen import quantise
from lorweb.training.step import take_step
from lorweb.training.validation import validate
from pipelines._train_plan import WEIGHTS, variant_folder
from tests.basis.cases import config, gradients, queries, run, trained
from tests.pipelines.test_train_options import trained as trained_project
from tests.tiny import tiny_inputs, tiny_transformer
from tests.training.made import held_out, make_run, train_section, write_data

HOW = os.environ["LORWEB_TEST_BASE"]
TOLERANCE = {"int8": 1e-3, "nf4": 0.01}[HOW]  # relative, of a loss on random weights
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def exact(linear):
    """What a quantised linear multiplies by."""
    identity = torch.eye(linear.in_features)
    with torch.no_grad():
        return (linear(identity) - (0 if linear.bias is None else linear.bias)).T


def test_it_computes_with_the_rounded_weights_and_their_gradients(folders):
    """The oracle is a base of float weights that holds what the quantised one multiplies by."""
    quantised, rounded = (tiny_transformer(0).requires_grad_(False) for _ in range(2))
    names = quantise(quantised, HOW, CPU)
    assert len(names) == 26 and not any(name.startswith(("x_embedder", "proj_out", "norm_out")) for name in names)
    with torch.no_grad():
        for name in names:
            weight = rounded.get_submodule(name).weight
            found = exact(quantised.get_submodule(name))
            assert 0 < float((found - weight).norm() / weight.norm()) < {"int8": 0.01, "nf4": 0.12}[HOW]
            weight.copy_(found)
    found = []
    for model in (quantised, rounded):
        trained(model, config())
        with analogy(model, queries(2, config())):
            model(**tiny_inputs(2, 8)).sample.square().mean().backward()
        found.append(gradients(model))
    torch.testing.assert_close(run(quantised, 2), run(rounded, 2), rtol=1e-4, atol=1e-5)
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", ["lorweb", "single_lora"])
def test_ten_steps_follow_those_on_the_full_base(folders, name):
    runs = [make_run(folders, train_section(base_weights=how, ema=0.9), name) for how in ("full", HOW)]
    before = {key: p.detach().clone() for key, p in runs[1].variant.parameters.items()}
    losses = [[take_step(run, step).loss for step in range(10)] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=TOLERANCE) and losses[0] != losses[1]
    print(HOW, name, max(abs(a - b) / a for a, b in zip(*losses, strict=True)))
    assert all(not torch.equal(before[key], p) for key, p in runs[1].variant.parameters.items())
    full, quantised = (validate(run, held_out(folders)[0]) for run in runs)
    assert quantised == pytest.approx(full, rel=TOLERANCE)


def test_the_stage_publishes_for_the_full_base(tmp_path, monkeypatch):
    """Sheets are drawn on the quantised base; the weights have the names and shapes that they have without."""
    found = {}
    for how in ("full", HOW):
        plan, history = trained_project(tmp_path / how, monkeypatch, base_weights=how, gradient_checkpointing=True)
        assert history.step == 10 and len(history.validation) == 3 * 4
        folder = variant_folder(plan, "lorweb")
        sheets = sorted(path.name for path in (folder / "sheets").iterdir())
        assert sheets == ["step-00000005.png", "step-00000010.png"]
        base = load_base(plan.base, torch.float32, CPU)
        found[how] = load_variant(base.transformer, folder / WEIGHTS).parameters, folder / "sheets" / sheets[-1]
    (full, sheet), (quantised, other) = found.values()
    assert {name: p.shape for name, p in full.items()} == {name: p.shape for name, p in quantised.items()}
    assert not torch.equal(full["router.keys"], quantised["router.keys"])
    assert Image.open(sheet).size == Image.open(other).size
