"""Ray nodes that share nothing: each with a working directory and a folder for fetched files of its own, both empty."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lorweb.storage.places import NODE_FOLDER
from tests.cluster.head import ROOT, free_port


@dataclass(frozen=True)
class Node:
    """A running node; `kept` is where its processes keep what they fetch."""

    process: "subprocess.Popen[bytes]"
    home: Path
    kept: Path


@contextmanager
def running_nodes(root: Path, count: int, cpus: int = 1) -> Iterator[tuple[str, list[Node]]]:
    """Address of a cluster of `count` nodes on this machine, the head among them, and the nodes."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    nodes: list[Node] = []
    with ExitStack() as stack:
        own = [f"--port={port}", "--head", "--include-dashboard=false", f"--ray-client-server-port={free_port()}"]
        for index in range(count):
            options = [f"--address={address}"] if index else own
            start = partial(_node, options=options, cpus=cpus)
            nodes.append(_joined(stack, address, len(nodes), partial(start, root / f"node{index}")))
        yield address, nodes


def _joined(stack: ExitStack, address: str, before: int, start: Callable[[], "AbstractContextManager[Node]"]) -> Node:
    """One node more, which runs until the stack ends; on a busy machine one that is not up within 30 s gives up."""
    for left in (2, 1, 0):
        trial = ExitStack()
        node = trial.enter_context(start())
        try:
            wait_until(lambda: _alive(address) == before + 1, [node])
        except AssertionError:
            trial.close()
            if not left:
                raise
        else:
            stack.push(trial)
            return node
    raise AssertionError("unreachable")


@contextmanager
def _node(folder: Path, options: list[str], cpus: int) -> Iterator[Node]:
    home, kept = folder / "home", folder / "kept"
    home.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", NODE_FOLDER: str(kept)}
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--num-cpus={cpus}", *options]
    command += ["--node-ip-address=127.0.0.1", f"--object-store-memory={100 << 20}"]
    command += ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, start_new_session=True, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield Node(process, home, kept)
        finally:
            with suppress(ProcessLookupError):  # a test may have killed it
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def _alive(address: str) -> int:
    from ray._raylet import GcsClient

    try:
        return sum(info.state == 0 for info in GcsClient(address=address).get_all_node_info().values())
    except Exception:  # not there yet
        return 0


def wait_until(true, nodes: list[Node]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        for node in nodes:
            assert node.process.poll() is None, (node.home.parent / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.3)
