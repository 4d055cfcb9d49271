"""Every choice and switch of the train section, in some combination, through a worker's whole loop.

What cannot run here is listed, so that a new choice fails this test until it has run.
"""

from dataclasses import replace
from functools import cache
from itertools import chain

import pytest
import yaml

from lorweb.config import load_params, parse_params
from lorweb.profiles import merge
from lorweb.training.baseline import load_variant, weights_file
from pipelines._mlflow_run import StageFacts, mlflow_run
from pipelines._train_plan import WEIGHTS, variant_folder
from pipelines._train_worker import train_one
from pipelines.train import make_plan
from tests.options_model import Option, all_options, used
from tests.pipelines.train_project import make_project
from tests.training.made import SECTION

pytestmark = pytest.mark.slow
SHORT = {"steps": 2, "checkpoint_every": 1, "validate_every": 1, "validation_analogies": 2, "sheet_rows": 2}
ALARMS = {"from_step": 1, "min_entropy": 0.05, "min_variation": 0.02, "max_dead_atoms": 0.5}
CASES = {
    "mixed": {
        "basis": {"heads": 2, "activation": "tanh", "reduce": "sum", "projection": "shared"},
        "optimizer": {"name": "adamw", "schedule": "linear", "warmup_steps": 0},
        "caption_dropout": 0, "timesteps": "logit_normal", "weighting": "plain", "accumulate": 2, "ema": 0.9,
        "gradient_checkpointing": True, "keep_best": "seen", "publish": "best", "async_checkpoints": True,
        "ablations": ["identity", "no_prompt"], "stop": {"patience": 1, "split": "seen", "min_delta": 0.0},
    },
    "bare": {
        "basis": {"key_dim": 48, "projection": "none"},
        "optimizer": {
            "name": "prodigy", "learning_rate": 1.0, "weight_decay": 0, "schedule": "constant",
            "prodigy": {"d0": 1.0e-6, "d_coef": 1.0},
        },
        "caption_dropout": 0.5, "weighting": "logit_normal", "precision": "bfloat16", "keep_best": "unseen",
        "ablations": [], "stop": {"patience": 9, "split": "unseen", "min_delta": 0.1}, "alarms": ALARMS,
        "baselines": [],
    },
    "whole, avg": {"basis": {"internal": {"mode": "aa'bb'", "pooling": "avg"}}},
    "control, max": {"basis": {"internal": {"mode": "caa'bb'", "pooling": "max"}}},
    "exemplar, avg": {"basis": {"internal": {"mode": "caa'", "pooling": "avg"}}},
    "three, max": {"basis": {"internal": {"mode": "caa'b", "pooling": "max"}}},
    "baselines": {"baselines": ["single_lora_equal", "basis_constant", "single_lora"]},
}  # fmt: skip
ELSEWHERE = {  # each with the test that runs it, or why none can
    Option("train.workers", "> 1"): "tests/pipelines/test_train_resume.py, on Ray",
    Option("train.gpus_per_worker", "> 0"): "needs CUDA",
    Option("train.sharding", "zero1"): "several workers",
    Option("train.sharding", "zero2"): "several workers",
    Option("train.shard_base", "true"): "several workers",
    Option("train.base_weights", "int8"): "tests/pipelines/test_paper_profile.py, in reach of torchao",
    Option("train.base_weights", "nf4"): "a package that the environment does not have",
    Option("train.offload_activations", "true"): "needs CUDA",
    Option("train.optimizer.name", "adamw_8bit"): "tests/pipelines/test_paper_profile.py, in reach of torchao",
    Option("train.optimizer.name", "adamw_8bit_bitsandbytes"): "a package that the environment does not have",
}


@cache
def section(name):
    return merge({**yaml.safe_load(SECTION), **SHORT}, CASES[name])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("every"))


def trained(project, monkeypatch, changed):
    """The plan and the histories of all variants, trained in this process."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(project)
    raw = yaml.safe_load((project / "params.yaml").read_text())
    assert load_params().encode.base == raw["encode"]["base"]
    plan = make_plan(parse_params({**raw, "train": changed}, "case"))
    with mlflow_run(StageFacts("train", plan.section, [])) as run:
        plan = replace(plan, run_id=run.run_id)
        return plan, {name: train_one(plan, name) for name in plan.variants}


def check(plan, histories):
    """The weights of every variant are there and load into a fresh base; some of them moved."""
    import torch

    from lorweb.kontext.load import load_base

    for name, history in histories.items():
        assert history.step >= 1 and all(torch.isfinite(torch.tensor(history.curves["loss"])))
        folder = variant_folder(plan, name) / WEIGHTS
        assert (folder / weights_file(name)).is_file()
        variant = load_variant(load_base(plan.base, torch.float32, "cpu").transformer, folder)
        assert any(
            p.abs().max() > 0 for key, p in variant.adapters.items() if key.endswith((".B", "lora_B.default.weight"))
        )


@pytest.mark.parametrize("name", CASES)
def test_a_worker_trains_it_to_its_end(project, monkeypatch, name):
    check(*trained(project, monkeypatch, section(name)))


@pytest.mark.slow
def test_compiled_blocks(project, monkeypatch):
    check(*trained(project, monkeypatch, {**section("whole, avg"), "compile": True}))


def test_no_choice_is_left_out():
    ran = set(chain(*(used("train", {"train": section(name)}) for name in CASES)))
    ran |= used("train", {"train": {**section("mixed"), "compile": True}})
    every = {option for option in all_options() if option.key.startswith("train.")}
    assert len(every) > 80
    assert every - ran == ELSEWHERE.keys() & every
