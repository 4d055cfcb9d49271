"""`make run CLUSTER=...`: the address reaches the stages that DVC runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.head import ROOT

PROBE = "probe: ; @python -m pipelines.filter"  # a target beside those of the Makefile, as `dvc repro` runs a stage


def make(*words: str) -> subprocess.CompletedProcess[str]:
    told = {name: value for name, value in os.environ.items() if name not in ("LORWEB_CLUSTER", "LORWEB_JOB")}
    environment = f"VENV={Path(sys.executable).parent.parent}"
    return subprocess.run(
        ["make", environment, *words],
        cwd=ROOT,
        env=told | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_cluster_named_to_make_reaches_the_stages():
    dry = make("--dry-run", "run", "CLUSTER=no address")
    assert dry.returncode == 0 and "dvc repro" in dry.stdout.splitlines(), dry.stderr
    there = make("--eval", PROBE, "probe", "CLUSTER=no address")
    assert "submit: 'no address' is no address of a job server" in there.stderr
    assert there.returncode == 2  # make's own, whatever the stage's was
    printed = make("--eval", 'show: ; @echo "cluster=$$LORWEB_CLUSTER."', "show")
    assert printed.returncode == 0 and "cluster=.\n" in printed.stdout
