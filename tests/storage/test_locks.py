"""Locks between processes of one node: the second waits, and says so."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

from lorweb.storage.locks import locked

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
