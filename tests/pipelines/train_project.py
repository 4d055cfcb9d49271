"""A project folder with a tiny random base and a small encoded data set: everything that the train stage reads."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lorweb.data.manifest import Manifest, write_manifest
from lorweb.kontext.files import base_revision
from tests.kontext_tiny import save_tiny_kontext
from tests.training.made import SECTION, write_data

PATIENCE = 500  # s; an idle machine needs 30
ROOT = Path(__file__).parent.parent.parent


def make_project(root: Path, **changes: Any) -> Path:
    """params.yaml, base/, data/encoded and data/analogies below `root`; `changes` go into the train section."""
    base = save_tiny_kontext(root / "base")
    folders = write_data(root)
    facts = {
        "base": str(base),
        "base_revision": base_revision(base),
        "encoder": "made",
        "encoder_revision": "1",
        "quadrant": 32,
        "query_mode": "cat-aa'b",
        "catalogue_sha256": "0" * 64,
    }
    write_manifest(folders.encoded, Manifest(1, {}, facts, {}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["train"] = {**yaml.safe_load(SECTION), **changes}
    params["encode"] |= {"base": str(base), "quadrant": 32, "encoder": "made"}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


@contextmanager
def started(project: Path) -> "Iterator[subprocess.Popen[str]]":
    """The stage as `dvc repro` would start it; it does not outlive the body."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "pipelines.train"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=project, env=environment, **output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_train(project: Path) -> str:
    """Run the stage to its end; returns what it printed. Fails the test if the stage fails."""
    with started(project) as process:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output
