"""Stages as Ray jobs, against a real head with its job server; data stay in the project folder, only code travels."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.submit import MAX_UPLOAD, code_files, entrypoint, submission_id, upload

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with nothing but small parameters."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["collect"]["readers"] = [{"reader": "photos", "crops": 1}]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path


def test_only_code_is_uploaded() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in code_files(ROOT)}
    assert names == {"lorweb", "pipelines", "cluster"}
    assert 100_000 < upload(ROOT) < MAX_UPLOAD
    assert not [path for path in code_files(ROOT) if path.suffix == ".pyc"]


def test_the_entrypoint_takes_code_from_the_upload_and_data_from_the_root(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    assert "python -P -m pipelines.generate" in entrypoint("generate", folder)
    assert f"'{folder}'" in entrypoint("generate", folder)


def test_the_same_work_has_the_same_id_and_changed_parameters_another(project: Path) -> None:
    first = submission_id("collect", ROOT, project)
    (project / "data/sources").mkdir(parents=True)
    (project / "data/sources/_manifest.json").write_text("{}")  # the stage's own output does not count
    assert submission_id("collect", ROOT, project) == first
    assert submission_id("generate", ROOT, project) != first
    with (project / "params.yaml").open("a") as file:
        file.write("# changed\n")
    assert submission_id("collect", ROOT, project) != first


def submit(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.submit", *arguments, "--address", address]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_no_head_and_no_stage_are_sentences(project: Path) -> None:
    absent = submit(f"http://127.0.0.1:{free_port()}", "collect", "--root", str(project))
    assert absent.returncode == 1 and "no job server answers" in absent.stderr and "Traceback" not in absent.stderr
    wrong = submit("http://127.0.0.1:1", "colect", "--root", str(project))
    assert wrong.returncode == 2 and "no stage 'colect'" in wrong.stderr


@pytest.fixture
def head() -> Iterator[str]:
    """A real head on free ports, stopped by its own process group (`ray stop` would end every Ray of the machine)."""
    port, dashboard = free_port(), free_port()
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--port={port}",
        "--num-cpus=4",
    ]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--object-store-memory={300 << 20}"]
    command += [f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"]
    process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(f"{address}/api/version", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert process.poll() is None, "the head ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"nothing answers at {url}")


@pytest.mark.ray
def test_a_stage_runs_as_a_job(head: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    first = submit(head, "collect", "--root", str(project))
    assert first.returncode == 0, first.stdout + first.stderr
    assert (project / "data/sources/part-00000.parquet").is_file()
    assert (project / "metrics/collect.json").is_file()
    assert not (project / "lorweb").exists(), "code was copied into the project folder"

    again = submit(head, "collect", "--root", str(project))
    assert again.returncode == 0 and "done before" in again.stdout

    shutil.rmtree(project / "data")
    failing = submit(head, "filter", "--root", str(project))
    assert failing.returncode == 1
    assert "FAILED" in failing.stderr and "data/candidates" in failing.stdout + failing.stderr
