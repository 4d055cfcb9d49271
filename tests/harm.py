"""Real harm for tests: a disk that is full, and a process that dies exactly while it writes."""

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def full_disk(room: int = 1000) -> Iterator[None]:
    """No file of this process grows beyond `room` bytes: what a disk does that has no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def kill_while(processes: list[psutil.Process], amid: Callable[[], bool], patience: float) -> bool:
    """SIGKILL processes at a moment when `amid()` holds; False if they ended or `patience` seconds passed before.

    They are held still for every look, so that what was seen is true when they die.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            for process in processes:
                process.send_signal(signal.SIGSTOP)
            seen = amid()
            for process in processes:
                process.send_signal(signal.SIGKILL if seen else signal.SIGCONT)
        except psutil.NoSuchProcess:
            return False
        if seen:
            return True
        time.sleep(0.001)
    return False
