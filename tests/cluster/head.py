"""A real Ray head with its job server on this machine, and submission to it as a user would."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def submit(address: str, *arguments: str, patience: int = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.submit", *arguments, "--address", address]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False)


@contextmanager
def running_head() -> Iterator[str]:
    """A real head on free ports, stopped by its own process group (`ray stop` would end every Ray of the machine)."""
    port, dashboard = free_port(), free_port()
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    # a job runs the `python` on the head's PATH: this environment's, whether or not it was activated
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
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
