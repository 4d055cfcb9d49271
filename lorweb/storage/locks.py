"""Locks between the processes of one node. The system gives them back when a process ends, however it ends."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path, waits: Callable[[], None] | None = None, needed: bool = True) -> Iterator[None]:
    """One process of this node at a time; `waits` is called once if another one holds it.

    On a disk that knows no locks it raises OSError, or, where the lock is not `needed`, goes on without.
    """
    with path.open("w") as file:
        busy = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = True
        except OSError:
            if needed:
                raise
        if busy:
            if waits is not None:
                waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def idle(path: Path, unlocked: bool | None = None) -> Iterator[IO[str] | None]:
    """The lock's open file, or None where somebody holds the lock; while the body runs, nobody else does.

    A child process that is given the file (`pass_fds`) holds the lock beyond its parent's death. `unlocked`: whether a
    lock counts as free on a disk that knows none; None raises OSError there.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError:
            if unlocked is None:
                raise
            free = unlocked
        yield file if free else None


def lock_of(folder: Path) -> Path:
    """The lock of a folder, beside it."""
    return folder.with_name(f"{folder.name}.lock")


def reading(folder: Path) -> IO[str]:
    """A shared lock of a folder: until it is closed, or the process ends, nobody who asks `idle` tidies it away."""
    held = lock_of(folder).open("w")
    fcntl.flock(held, fcntl.LOCK_SH)
    return held
