"""Quantised bases, in processes of their own: with torchao in reach, PEFT and diffusers behave differently for good."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lorweb.config import load_params, parse_params
from lorweb.kontext.load import load_base
from lorweb.profiles import merge
from lorweb.training.frozen import load_frozen
from lorweb.training.packages import require_base_package
from pipelines.train import RESOURCES, make_plan
from tests.kontext_tiny import save_tiny_kontext
from tests.pipelines.train_project import make_project
from tests.training.made import train_section
from tests.training.test_eight_bit import BESIDE, installed

CASES = Path(__file__).with_name("base_weights_cases.py")


def run_cases(weights: str) -> None:
    path = os.pathsep.join([str(BESIDE), str(CASES.parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "LORWEB_TEST_BASE": weights}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    print(done.stdout)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_int8_by_torchao() -> None:
    assert installed("torchao"), "no torchao here; run ./setup.sh"
    run_cases("int8")


@pytest.mark.slow
@pytest.mark.skipif(not installed("bitsandbytes"), reason="pip install 'bitsandbytes>=0.50' to run it")
def test_nf4_by_bitsandbytes() -> None:
    run_cases("nf4")


def test_a_missing_package_stops_the_stage_before_anything_is_loaded(tmp_path, monkeypatch):
    make_project(tmp_path, base_weights="nf4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorweb.training.packages.find_spec", lambda _: None)
    monkeypatch.setattr("pipelines.train.resolve", lambda _: pytest.fail("looked for the base first"))
    with pytest.raises(ValueError, match=r"base_weights 'nf4' .*pip install 'bitsandbytes>=0\.50'"):
        make_plan(load_params())
    require_base_package("full")


def test_what_cannot_be_cut_is_refused():
    prodigy = {"name": "prodigy", "prodigy": {"d0": 1.0e-6, "d_coef": 1.0}}
    told = {
        "finds one step size from all parameters": {"sharding": "zero1", "optimizer": prodigy},
        "weights that a block gathers would go": {"shard_base": True, "offload_activations": True},
        "quantised weights cannot be cut": {"shard_base": True, "base_weights": "int8"},
        "'none', 'zero1' or 'zero2'": {"sharding": "zero3"},
    }
    default = load_params().model_dump(mode="json")
    for words, changes in told.items():
        with pytest.raises(ValueError, match=words):
            parse_params(merge(default, {"train": changes}), "params.yaml")


def test_training_leaves_the_text_encoders_on_the_disk(tmp_path):
    folder = str(save_tiny_kontext(tmp_path / "base"))
    ours = load_frozen(folder, train_section(), torch.device("cpu"))
    whole = load_base(folder, torch.float32, "cpu")
    assert ours.pipeline.text_encoder is None and ours.pipeline.text_encoder_2 is None
    assert ours.device == whole.device and len(whole.text([""])) == 1
    weights = whole.transformer.state_dict()
    assert weights and all(torch.equal(weights[key], value) for key, value in ours.transformer.state_dict().items())


def test_a_run_goes_on_under_another_sharding_but_not_on_another_base():
    assert {"sharding", "shard_base", "offload_activations"} <= set(RESOURCES) and "base_weights" not in RESOURCES
