"""A real MLflow server and a real Postgres on loopback, for the length of a test."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 240.0  # s until a server answers, on a busy machine


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, database: str, host: str = "127.0.0.1") -> Iterator[str]:
    """`mlflow server` on `database`, with its artifacts below `folder`; yields its address."""
    port = free_port()
    address = f"http://{host}:{port}"
    words = ["--host", host, "--port", str(port), "--workers", "1", "--backend-store-uri", database]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven consumers of job queues that nobody fills
    with answering([sys.executable, "-m", "mlflow", "server", *words], environment, address, folder):
        yield address


@contextmanager
def answering(command: list[str], environment: dict[str, str], address: str, folder: Path) -> Iterator[None]:
    """A server that runs, in `folder`, for the length of the body; its log is kept there."""
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _until_it_answers(address, server, folder / "server.log")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # its own session: the server and its workers
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _until_it_answers(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"the MLflow server did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def no_postgres() -> str:
    """Why there is no Postgres here; "" if there is one."""
    if _binary("initdb") is None or _binary("postgres") is None:
        return "no initdb and postgres on this machine (Debian: apt-get install postgresql)"
    if importlib.util.find_spec("psycopg2") is None:
        return "the MLflow server needs psycopg2 to speak to Postgres (pip install -e '.[cluster]')"
    return ""


def _binary(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


@contextmanager
def postgres() -> Iterator[str]:
    """An empty database of its own; yields its address. It refuses to run as root: then it runs as its own user."""
    folder = Path(tempfile.mkdtemp(prefix="lorweb-postgres-"))
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    if os.getuid() == 0:
        os.chown(folder, user.pw_uid, user.pw_gid)
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    data, port = folder / "data", free_port()
    try:
        subprocess.run(
            [_binary("initdb"), "-D", data, "-U", "mlflow", "--auth=trust", "--no-sync"],
            cwd=folder, check=True, capture_output=True, **as_user,
        )  # fmt: skip
        server = subprocess.Popen(
            [_binary("postgres"), "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
             "-c", f"unix_socket_directories={folder}"],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user,
        )  # fmt: skip
        try:
            _until_it_accepts(port, server)
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown: what is connected is cut off
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _until_it_accepts(port: int, server: "subprocess.Popen[bytes]") -> None:
    import psycopg2

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="mlflow", dbname="postgres").close()
            return
        except psycopg2.OperationalError:
            time.sleep(0.2)
    raise RuntimeError(f"Postgres did not come up on port {port}")
