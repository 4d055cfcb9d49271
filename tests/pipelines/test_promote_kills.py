"""The promote stage as a command, killed at random moments: the champion loads after each, and the next run ends it."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from lorweb.serving.address import sqlite_uri
from lorweb.serving.registry import Registry
from tests.pipelines.contest import begin, contest, evaluated, parts, project  # noqa: F401  fixtures
from tests.ram_disk import scratch

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
KILLS, SEED = 20, 0


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


def test_whenever_the_stage_dies_the_champion_loads_and_the_next_run_ends_what_it_began(contest):  # noqa: F811
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
