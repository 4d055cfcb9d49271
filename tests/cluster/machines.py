"""Machines of their own on this one: each a network namespace on one bridge, a process tree, a /tmp and a /dev/shm.

They share the installed packages, which they only read, and no place to leave a file for each other. Killing a machine
kills all its processes at once, as a power cut does; started again, its folders are empty.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

NETWORK = "10.213.0"  # only inside the namespaces
HUB = f"{NETWORK}.1"  # where the submitter and the servers are
CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")


def no_machines() -> str:
    """Why there can be none here; "" if there can."""
    if os.getuid() != 0:
        return "network namespaces take root"
    if missing := [tool for tool in ("ip", "unshare", "mount") if shutil.which(tool) is None]:
        return f"this machine has no {', '.join(missing)}"
    if Path("/tmp") in Path(sys.prefix).resolve().parents:
        return f"the environment is in {sys.prefix}, and /tmp is hidden from the machines"
    name = f"lorweb-try-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespace can be made here: {tried.stderr.strip()}"
    ip("netns", "del", name)
    return ""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Machine:
    """One machine; it runs `command` in an empty folder while it is on."""

    namespace: str
    address: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self) -> None:
        folders = "mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm && mkdir /tmp/home /tmp/work"
        own = f'{folders} && cd /tmp/work && exec "$@"'
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", own, "sh"]
        told = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": "/tmp/home", "TMPDIR": "/tmp"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *alone, *self.command],
                env={**told, **self.environment, "LORWEB_NODE_FOLDER": "/tmp/kept"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """At once, everything on it."""
        assert self.process is not None
        for pid in [
            self.process.pid,
            *(one.pid for one in self.tree()),
        ]:  # all end with its first
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)

    def tree(self) -> list[psutil.Process]:
        """Its processes."""
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def titles(self) -> list[str]:
        """What its Ray workers say that they do."""
        return [title for title in map(_title, self.tree()) if title.startswith("ray::")]

    def files(self) -> Path:
        """Its own view of the file system, once Ray has started on it."""
        return Path(f"/proc/{self.tree()[-1].pid}/root")


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""


@contextmanager
def network(names: tuple[str, ...]) -> Iterator[dict[str, tuple[str, str]]]:
    """A bridge in a namespace of its own, which the calling thread enters; {name: (namespace, address)} on it."""
    made, before = [], os.open("/proc/self/ns/net", os.O_RDONLY)
    hub = f"lorweb-{os.getpid()}-hub"
    try:
        for number, name in enumerate(("hub", *names), 1):
            space = f"lorweb-{os.getpid()}-{name}"
            ip("netns", "add", space)
            made.append((name, space, f"{NETWORK}.{number}"))
            ip("-n", space, "link", "set", "lo", "up")
            if name == "hub":
                ip("-n", hub, "link", "add", "bridge", "type", "bridge")
                link = "bridge"
            else:
                ip("link", "add", name, "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", space)
                ip("-n", hub, "link", "set", name, "master", "bridge", "up")
                link = "eth0"
            ip("-n", space, "addr", "add", f"{NETWORK}.{number}/24", "dev", link)
            ip("-n", space, "link", "set", link, "up")
            if name != "hub":
                ip("-n", space, "route", "add", "default", "via", HUB)  # leads nowhere; Ray asks which way out there is
        enter(NAMESPACES / hub)
        yield {name: (space, address) for name, space, address in made}
    finally:
        _set_namespace(before)
        os.close(before)
        for _, space, _ in made:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", space)


def enter(namespace: Path) -> None:
    handle = os.open(namespace, os.O_RDONLY)
    try:
        _set_namespace(handle)
    finally:
        os.close(handle)


def _set_namespace(handle: int) -> None:
    """Of this thread; what it starts inherits it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the namespace")
