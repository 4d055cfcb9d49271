"""Locks between processes of one node: the second waits, and says so."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from lorweb.storage.locks import idle, locked

HOLDER = """
import sys
from pathlib import Path
from lorweb.storage.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_the_second_waits_and_says_so_until_the_first_has_ended(tmp_path: Path) -> None:
    lock, said, inside = tmp_path / "work.lock", Event(), Event()

    def second() -> None:
        with locked(lock, said.set):
            inside.set()

    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        waiting = Thread(target=second)
        waiting.start()
        assert said.wait(30) and not inside.wait(0.2)
        first.kill()
        assert inside.wait(30), "the lock of a dead process is free"
        waiting.join(30)
    said.clear()
    second()
    assert not said.is_set(), "nobody holds it: nothing is said"


def test_a_disk_without_locks_is_an_error_only_where_the_lock_is_needed(tmp_path, monkeypatch):
    def refuse(_file: object, _how: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock, entered = tmp_path / "work.lock", []
    for arguments in ({}, {"waits": lambda: entered.append("waits")}):
        with pytest.raises(OSError, match="not supported"), locked(lock, **arguments):
            entered.append("needed")
        with locked(lock, needed=False, **arguments):
            entered.append("without")
        with pytest.raises(OSError, match="full"), locked(lock, needed=False, **arguments):
            raise OSError("the disk is full")
    with pytest.raises(OSError, match="not supported"), idle(lock):
        entered.append("needed")
    for unlocked in (True, False):
        with idle(lock, unlocked=unlocked) as held:
            assert (held is not None) is unlocked
    assert entered == ["without", "without"]


def test_a_child_that_is_given_the_lock_keeps_it(tmp_path):
    lock = tmp_path / "work.lock"
    child = [sys.executable, "-c", "input()"]
    with idle(lock) as held:
        assert held is not None
        kept = subprocess.Popen(child, stdin=subprocess.PIPE, pass_fds=[held.fileno()])
    with kept:
        with idle(lock) as again:
            assert again is None, "its parent let it go, the child did not"
        kept.communicate(b"\n")
    with idle(lock) as free:
        assert free is not None


def test_a_word_on_waiting_that_cannot_be_said_does_not_open_the_lock(tmp_path):
    def closed_pipe() -> None:
        raise BrokenPipeError("nobody reads")

    lock = tmp_path / "work.lock"
    with idle(lock) as held:
        assert held is not None
        with pytest.raises(BrokenPipeError), locked(lock, closed_pipe, needed=False):
            raise AssertionError("both are inside")
