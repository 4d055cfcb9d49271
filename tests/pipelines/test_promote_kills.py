"""The promote stage as a command, killed at random moments: the champion loads after each, and the next run ends it."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorweb.serving.address import sqlite_uri
from lorweb.serving.registry import Registry
from pipelines import evaluate, promote
from pipelines._rows import in_process
from tests.model_tiny import save_model
from tests.pipelines.test_promote import evaluated, parts, perfect, project, scratch  # noqa: F401  fixtures
from tests.pipelines.train_project import ROOT

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
KILLS, SEED = 20, 0


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


def champion_loads(root: Path) -> int:
    """Load the champion as a server would; its number."""
    import mlflow

    found = Registry("lorweb", root).by_alias("champion")
    assert found is not None
    for name in (mlflow.set_tracking_uri, mlflow.set_registry_uri):
        name(sqlite_uri(root / "mlflow.db"))
    assert mlflow.pyfunc.load_model("models:/lorweb@champion").unwrap_python_model().service is not None
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow writes it, and the next project has another
    return found.number


def test_whenever_the_stage_dies_the_champion_loads_and_the_next_run_ends_what_it_began(contest):
    draw, kills, champions = random.Random(SEED), 0, []
    whole = 0.0  # s that the stage takes when nobody kills it
    while kills < KILLS:
        root = scratch()
        shutil.copytree(contest, root, dirs_exist_ok=True)
        started = time.monotonic()
        process = begin(root)
        if whole:
            time.sleep(draw.uniform(0.3, 1.0) * whole)
            kills += process.poll() is None
            process.kill()
        process.wait()
        whole = whole or time.monotonic() - started
        champions.append(champion_loads(root))
        assert begin(root).wait() == 0, (root / "log.txt").read_text()
        decision = json.loads((root / "models" / "promoted.json").read_text())
        assert decision["decision"] in ("promoted", "unchanged") and decision["champion"] == decision["version"]
        assert champion_loads(root) == decision["version"] > 1
        moves = [move.settled for move in Registry("lorweb", root).moves()]
        assert moves.count("done") == 2 and "" not in moves, "the first champion, and the candidate once"
        shutil.rmtree(root)
    print(f"{kills} kills in {len(champions) - 1} rounds, champion was the old one after {champions.count(1)}")
    assert champions[0] > 1, "the stage promotes when nobody kills it"
    assert {1} < set(champions), "all kills came before the move, or all after it"
