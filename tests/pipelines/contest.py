"""Projects for the promote stage: evaluated, or with a champion that the candidate beats; the stage as a process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import evaluate, promote
from pipelines._rows import in_process
from tests.model_tiny import save_model
from tests.pipelines.evaluated import make_project, read_json
from tests.pipelines.train_project import ROOT
from tests.ram_disk import scratch

MODELS = ("lorweb", "lorweb_shuffled", "base", "copy")


@pytest.fixture(scope="module")
def evaluated() -> Iterator[Path]:
    """An evaluated project, made once."""
    root = scratch()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        make_project(root, MODELS)
        evaluate.main(in_process)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def parts(evaluated: Path) -> Path:
    return evaluated / "parts"


@pytest.fixture
def project(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it with an empty registry, as the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = scratch()
    shutil.copytree(evaluated, root, dirs_exist_ok=True)
    monkeypatch.chdir(root)
    yield root
    os.chdir("/")
    shutil.rmtree(root, ignore_errors=True)


def run() -> dict:
    promote.main(in_process)
    return read_json("models/promoted.json")


def perfect(mine: float = 0.05) -> None:
    """Overwrite the measured means, as if the candidate had drawn better; the gate is tested on its own."""
    metrics = read_json("reports/metrics.json")
    for models in metrics.values():
        for model, value in (("lorweb", mine), ("lorweb_shuffled", 0.5), ("base", 0.5), ("copy", 0.5)):
            models[model]["mse_to_truth"] |= {"mean": value, "low": value, "high": value}
    Path("reports/metrics.json").write_text(json.dumps(metrics))


def begin(root: Path) -> "subprocess.Popen[bytes]":
    """The stage as `dvc repro` would start it."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (root / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.promote"], cwd=root, env=environment, stdout=log, stderr=log
        )


@pytest.fixture
def contest(project: Path, parts: Path) -> Path:
    """A project with a champion, and a candidate that beats it."""
    perfect()
    promote.main(in_process)
    save_model(parts, project / "models" / "candidate", seed=8)
    evaluate.main(in_process)
    perfect(0.01)
    os.chdir("/")
    return project
