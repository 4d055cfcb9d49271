"""The train stage as a command, and its death: every project is the same but for its folder, and so are its weights."""

import json
import os
import signal

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from lorweb.kontext.metadata import read_metadata
from pipelines.train import CANDIDATE
from tests.harm import kill_while
from tests.pipelines.train_project import (
    ALONE,
    LONG,
    PATIENCE,
    candidate,
    logged_once,
    make_project,
    run_train,
    started,
    wait_for,
    weights,
    workers_of,
)
from tests.training.made import SECTION


@pytest.mark.ray
def test_the_stage_trains_publishes_and_reports(undisturbed):
    assert read_metadata(undisturbed / CANDIDATE).extra["steps"] == LONG["steps"]
    assert json.loads((undisturbed / "metrics" / "train.json").read_text())["lorweb"]["loss"] > 0
    assert not list((undisturbed / ".work" / "train").rglob("refusal*.json"))
    logged_once(undisturbed, LONG["steps"])


@pytest.mark.ray
def test_a_killed_driver_costs_nothing_but_time(undisturbed, tmp_path):
    project = make_project(tmp_path, **LONG)
    with started(project) as process:
        wait_for(project, ".work/train/*/lorweb/step-*", process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (project / "models").exists()
    run_train(project)
    assert weights(project) == weights(undisturbed)
    logged_once(project, LONG["steps"])


@pytest.mark.ray
def test_a_death_amid_a_checkpoint_costs_nothing_but_time(undisturbed, tmp_path):
    """One that is written beside the training; tests/soak has the other kind."""
    project = make_project(tmp_path, **ALONE, async_checkpoints=True)
    with started(project) as process:
        wait_for(project, ".work/train/*/lorweb/step-*", process)
        (worker,), (folder,) = workers_of(process), project.glob(".work/train/*/lorweb")

        def amid() -> bool:
            return any(folder.glob(".writing-*/tensors.safetensors"))

        assert kill_while([psutil.Process(worker)], amid, PATIENCE), "it was not killed amid a write"
        assert amid(), "the half checkpoint lies there until the next start"
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
    assert not amid() and candidate(project) == candidate(undisturbed)
    logged_once(project, LONG["steps"], ["lorweb"])


@pytest.mark.ray
def test_two_workers_agree_with_one(undisturbed, undisturbed_pair):
    for name in ("candidate/basis.safetensors", "baselines/single_lora/adapter.safetensors"):
        one, two = (load_file(project / "models" / name) for project in (undisturbed, undisturbed_pair))
        assert one.keys() == two.keys()
        for key in one:
            assert (one[key] - two[key]).abs().max() < 2e-3 * (1 + one[key].abs().max()), key


@pytest.mark.ray
def test_a_killed_one_of_two_workers_costs_nothing_but_time(undisturbed_pair, tmp_path):
    project = make_project(tmp_path, workers=2, **ALONE)
    with started(project) as process:
        wait_for(project, ".work/train/*/lorweb/step-*", process)
        os.kill(max(workers_of(process)), signal.SIGKILL)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
    assert candidate(project) == candidate(undisturbed_pair)
    logged_once(project, LONG["steps"], ["lorweb"])


@pytest.mark.ray
def test_a_refusal_of_a_worker_is_one_sentence(tmp_path):
    basis = {**yaml.safe_load(SECTION)["basis"], "targets": ["transformer_block.*"]}
    project = make_project(tmp_path, basis=basis, workers=2)
    with started(project) as process:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "train: target pattern 'transformer_block.*' matches none of the" in output and "Traceback" not in output
