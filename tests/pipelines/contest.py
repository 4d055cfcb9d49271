"""A project with a champion and a candidate that beats it, and the promote stage as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import evaluate, promote
from pipelines._rows import in_process
from tests.model_tiny import save_model
from tests.pipelines.test_promote import evaluated, parts, perfect, project  # noqa: F401  fixtures
from tests.pipelines.train_project import ROOT


def begin(root: Path) -> "subprocess.Popen[bytes]":
    """The stage as `dvc repro` would start it."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (root / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.promote"], cwd=root, env=environment, stdout=log, stderr=log
        )


@pytest.fixture
def contest(project: Path, parts: Path) -> Iterator[Path]:  # noqa: F811
    """A project with a champion, and a candidate that beats it."""
    perfect()
    promote.main(in_process)
    save_model(parts, project / "models" / "candidate", seed=8)
    evaluate.main(in_process)
    metrics = json.loads(Path("reports/metrics.json").read_text())
    for models in metrics.values():
        for model, value in (("lorweb", 0.01), ("lorweb_shuffled", 0.5), ("base", 0.5), ("copy", 0.5)):
            models[model]["mse_to_truth"] |= {"mean": value, "low": value, "high": value}
    Path("reports/metrics.json").write_text(json.dumps(metrics))
    os.chdir("/")
    return project
