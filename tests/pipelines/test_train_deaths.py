"""The train stage as a command, and its death: every project is the same but for its folder, and so are its weights."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from lorweb.kontext.metadata import read_metadata
from pipelines.train import CANDIDATE
from tests.pipelines.train_project import PATIENCE, make_project, run_train, started

LONG = {"steps": 40, "checkpoint_every": 10, "validate_every": 20, "caption_dropout": 0.5}


def wait_for(path: Path, pattern: str, process) -> None:
    """Until a file of that pattern is there; the stage must still be running then, or the harm would come too late."""
    deadline = time.monotonic() + PATIENCE
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {pattern} in {path}"
        time.sleep(0.02)
    assert process.poll() is None


def descendants(pid: int) -> list[tuple[int, str]]:
    """(process id, command line) of everything that a process started, directly or not."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
    found, frontier = [], {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        found += [(child, names[child]) for child in frontier]
    return found


def weights(project: Path) -> dict[str, bytes]:
    """The published weights."""
    found = {path.name: path.read_bytes() for path in sorted((project / "models").rglob("*.safetensors"))}
    assert len(found) == 2
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A project whose train stage ran to its end in one go."""
    root = make_project(tmp_path_factory.mktemp("whole"), **LONG)
    run_train(root)
    return root


def logged_once(project: Path, steps: int) -> None:
    """One MLflow run, every step of both variants in it exactly once."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("lorweb").experiment_id])
    assert run.info.status == "FINISHED"
    for variant in ("lorweb", "single_lora"):
        found = sorted(metric.step for metric in client.get_metric_history(run.info.run_id, f"{variant}/loss"))
        assert found == list(range(1, steps + 1))


@pytest.mark.ray
def test_the_stage_trains_publishes_and_reports(undisturbed):
    assert read_metadata(undisturbed / CANDIDATE).extra["steps"] == 40
    assert json.loads((undisturbed / "metrics" / "train.json").read_text())["lorweb"]["loss"] > 0
    assert not list((undisturbed / ".work" / "train").rglob("refusal*.json"))
    logged_once(undisturbed, 40)


@pytest.mark.ray
def test_a_killed_driver_costs_nothing_but_time(undisturbed, tmp_path):
    project = make_project(tmp_path, **LONG)
    with started(project) as process:
        wait_for(project, ".work/train/*/lorweb/step-00000020", process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (project / "models").exists()
    run_train(project)
    assert weights(project) == weights(undisturbed)
    logged_once(project, 40)


@pytest.mark.ray
def test_a_killed_worker_is_replaced_within_the_same_run(undisturbed, tmp_path):
    project = make_project(tmp_path, **LONG)
    with started(project) as process:
        wait_for(project, ".work/train/*/lorweb/step-00000020", process)
        workers = [pid for pid, name in descendants(process.pid) if "RayTrainWorker" in name]
        assert workers, "no training worker found to kill"
        os.kill(workers[0], signal.SIGKILL)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
    assert weights(project) == weights(undisturbed)
    logged_once(project, 40)


@pytest.mark.ray
def test_two_workers_agree_with_one(undisturbed, tmp_path):
    from safetensors.torch import load_file

    project = make_project(tmp_path, workers=2, **LONG)
    run_train(project)
    for name in ("candidate/basis.safetensors", "baselines/single_lora/adapter.safetensors"):
        one, two = load_file(undisturbed / "models" / name), load_file(project / "models" / name)
        assert one.keys() == two.keys()
        for key in one:
            assert (one[key] - two[key]).abs().max() < 2e-3 * (1 + one[key].abs().max()), key


@pytest.mark.ray
def test_a_refusal_of_a_worker_is_one_sentence(tmp_path):
    project = make_project(tmp_path, batch_size=1, workers=2)
    with started(project) as process:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "train: 2 workers for a batch of 1" in output and "Traceback" not in output
