"""The real row engine against its simulation, on Ray, very small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmark_cases import FOLDER


@pytest.mark.ray
def test_the_engine_is_measured_and_predicted(ray_cluster: str, tmp_path: Path):
    command = [sys.executable, str(FOLDER / "scale.py"), "--validate", "--quick", "--json", "rows.json"]
    environment = {**os.environ, "RAY_ADDRESS": ray_cluster, "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["what"] for row in rows] == [*3 * ["costs from here"], "predicted"]
    for row in rows:
        known = row["rows"] * row["worker_ms"] / 1000 / row["actors"]
        assert known <= row["working_s"] < row["measured_s"]
        assert known <= row["simulated_working_s"] <= row["simulated_s"]
    assert abs(rows[-1]["working_error"]) < 1, "a busy machine is no excuse for a factor of two"
    table = done.stdout.splitlines()
    assert sum(line.startswith("| predicted | ") for line in table) == 1
