"""MLflow's scoring server: its app in a thread of this process, or `mlflow models serve` in one of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.head import free_port


@dataclass(frozen=True)
class Answered:
    """What came back: a status, and the body as JSON (None where it is none)."""

    status: int
    json: Any


def post(port: int, body: bytes | dict[str, Any] | list[Any], kind: str | None = "application/json") -> Answered:
    """One request to /invocations."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data=data, method="POST")
    request.add_header("Content-Type", kind or "")
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            status, text = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return Answered(status, json.loads(text))
    except ValueError:
        return Answered(status, None)


def ask(port: int, *records: dict[str, Any]) -> Answered:
    """Rows as most people send them."""
    return post(port, {"dataframe_records": list(records)})


@contextmanager
def app_of(model: Any) -> Iterator[int]:
    """The port of MLflow's own scoring app for a loaded model."""
    import uvicorn
    from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT as FLAG
    from mlflow.pyfunc import scoring_server

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(scoring_server.init(model), "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, thread.is_alive)
        yield port
    finally:
        server.should_exit = True
        thread.join(30)
        FLAG.unset()


@contextmanager
def mlflow_serve(root: Path, uri: str, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """(port, process) of `mlflow models serve`, from the root of a project with its registry."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "PYTHONPATH": str(Path(__file__).parents[2]),  # the server looks for lorweb as any program does
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow calls uvicorn by its name
    }
    with (root / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: healthy(port), lambda: process.poll() is None)
        yield port, process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def healthy(port: int) -> bool:
    """Whether /health answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def until(ready: Any, alive: Any, seconds: float = 180) -> None:
    """Wait for something that is being started."""
    end = time.monotonic() + seconds
    while not ready():
        assert alive(), "the server ended before it was ready"
        assert time.monotonic() < end, "the server is not ready"
        time.sleep(0.1)
