"""A real Ray head with its job server on this machine, and submission to it as a user would."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TOKEN = "0123456789abcdef" * 4


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def submission(address: str, *arguments: str) -> list[str]:
    """The command."""
    return [sys.executable, "-m", "cluster.submit", *arguments, "--address", address]


def submit(address: str, *arguments: str, patience: int = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        submission(address, *arguments),
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )


@contextmanager
def running_head(node: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """A real head on free ports, stopped by its own process group (`ray stop` would end every Ray of the machine).

    It starts in `node`, an empty folder, and asks for the token.
    """
    port, dashboard = free_port(), free_port()
    told = dict(os.environ) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    told |= {"LORWEB_NODE_FOLDER": str(node / "kept"), **environment}
    # a job runs the `python` on the head's PATH: this environment's, whether or not it was activated
    told["PATH"] = f"{Path(sys.executable).parent}:{told['PATH']}"
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
    # Ray sends a job to the head that was started last of all that share this folder; its sockets want a short name
    own = tempfile.mkdtemp(prefix="ray-")
    command += [f"--temp-dir={own}"]
    process = subprocess.Popen(command, cwd=node, env=told, start_new_session=True, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(f"{address}/api/version", process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # asked to end, Ray waits 30 s for what it has itself ended
        process.wait(timeout=60)
        shutil.rmtree(own, ignore_errors=True)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    for _ in range(240):
        assert process.poll() is None, "the head ended before it answered"
        try:
            with urllib.request.urlopen(asked, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"nothing answers at {url}")
