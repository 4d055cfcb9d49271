"""A project folder with a tiny random base and a small encoded data set: everything that the train stage reads."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lorweb.data.manifest import Manifest, write_manifest
from lorweb.kontext.files import base_revision
from tests.kontext_tiny import save_tiny_kontext
from tests.training.made import SECTION, write_data

PATIENCE = 500  # s; an idle machine needs 30
LONG = {"steps": 80, "batch_size": 12, "checkpoint_every": 10, "validate_every": 40, "caption_dropout": 0.5}  # some 2 s
ALONE = {**LONG, "baselines": []}  # half of the processes; the weights of the basis are the same
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
def started(project: Path, tracking: str | None = None) -> "Iterator[subprocess.Popen[str]]":
    """The stage as `dvc repro` would start it; it does not outlive the body. MLflow is the project's own file, or the
    server at this address."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    if tracking:
        environment["MLFLOW_TRACKING_URI"] = tracking
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


def candidate(project: Path) -> bytes:
    """The published weights of the basis."""
    return (project / "models" / "candidate" / "basis.safetensors").read_bytes()


def workers_of(driver: "subprocess.Popen[str]") -> list[int]:
    """Process ids of the training workers."""
    found = [pid for pid, name in descendants(driver.pid) if "RayTrainWorker" in name]
    assert found, "no training worker found"
    return found


def logged_once(project: Path, steps: int, variants: Sequence[str] = ("lorweb", "single_lora")) -> None:
    """One MLflow run, every step of all variants in it exactly once."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("lorweb").experiment_id])
    assert run.info.status == "FINISHED"
    for variant in variants:
        found = sorted(metric.step for metric in client.get_metric_history(run.info.run_id, f"{variant}/loss"))
        assert found == list(range(1, steps + 1))
