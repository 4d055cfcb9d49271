"""A process that dies at a certain step of a promotion or a registration, and what the next one makes of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from lorweb.serving import orphans
from lorweb.serving.orphans import PENDING
from lorweb.serving.registry import ROLLED_BACK, Registry, State
from tests.serving.test_registry import candidate

REPO = Path(__file__).parents[2]


KILLED = """
import os, signal, sys
from pathlib import Path
from lorweb.serving.registry import Registry
registry, calls, at = Registry("lorweb", Path(sys.argv[1])), 0, int(sys.argv[2])
steps = ("create_run", "create_registered_model", "create_model_version", "set_registered_model_alias",
         "set_model_version_tag")
def counted(real):
    def call(*args, **kwargs):
        global calls
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return real(*args, **kwargs)
    return call
for name in steps:
    setattr(registry.client, name, counted(getattr(registry.client, name)))
registry.rollback() if sys.argv[3:] else registry.promote(registry.by_number(2))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("at", "moved"), [(0, False), (2, False), (3, True), (4, True), (5, True)])
def test_a_process_killed_between_two_steps_leaves_what_the_next_run_repairs(root, at, moved):
    registry = Registry("lorweb", root)
    one, _ = (registry.submit(candidate(root, text)) for text in ("one", "two"))
    registry.promote(one)
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(at)], cwd=REPO, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert registry.by_alias("champion").number in (1, 2), "a reader finds a whole champion at any moment"
    assert registry.recover() is moved
    expected = State(2, 1) if moved else State(1, None)
    assert registry.aliases.read() == expected
    assert [move.settled for move in registry.moves()] == ["done"] * (1 + moved)
    registry.promote(registry.by_number(2))
    assert registry.aliases.read() == State(2, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("at", "moved"), [(2, True), (3, False), (4, False), (5, False), (6, False)])
def test_a_rollback_that_was_killed_and_is_run_again_is_one_rollback(root, at, moved):
    registry = Registry("lorweb", root)
    for text in ("one", "two"):
        registry.promote(registry.submit(candidate(root, text)))
    words = [sys.executable, "-c", KILLED, str(root), str(at), "rollback"]
    assert subprocess.run(words, cwd=REPO, env=os.environ, check=False).returncode == -signal.SIGKILL
    champion, again = registry.rollback()
    assert (champion.number, again) == (1, moved), "what was begun is finished, and only what was not is made"
    assert registry.aliases.read() == State(1, 2) and ROLLED_BACK in registry.by_number(2).tags
    assert [move.kind for move in registry.moves()] == ["promote", "promote", "rollback"]


KILLED_REGISTERING = """
import os, signal, sys
from pathlib import Path
import mlflow
from lorweb.serving.registry import Registry
from tests.serving.test_registry import candidate
root = Path(sys.argv[1])
registry = Registry("lorweb", root)
die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "logging":
    mlflow.log_metrics = die
elif sys.argv[2] == "registering":
    mlflow.register_model = die
else:
    registry.client.set_registered_model_alias = die
registry.submit(candidate(root, "one"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("at", "there"), [("logging", 0), ("registering", 0), ("pointing", 1)])
def test_a_process_killed_while_it_registers_leaves_no_half_version_and_no_open_run(root, at, there, monkeypatch):
    words = [sys.executable, "-c", KILLED_REGISTERING, str(root), at]
    assert subprocess.run(words, cwd=REPO, env=os.environ, check=False).returncode == -signal.SIGKILL
    registry = Registry("lorweb", root)
    assert len(registry.versions()) == there and registry.by_alias("candidate") is None
    version = registry.submit(candidate(root, "one"))
    left = 2 - there  # its server may still be about to register it: it stays for a while
    assert len(list((root / "mlartifacts").rglob("basis.safetensors"))) == left
    monkeypatch.setattr(orphans, "GRACE", -1.0)
    assert registry.submit(candidate(root, "one")).number == version.number
    assert (version.number, version.aliases) == (1, ("candidate",)) and len(registry.versions()) == 1
    registry.promote(version)
    assert (registry.folder(version) / "basis.safetensors").read_bytes() == b"one"
    runs = [run for run in registry.client.search_runs(["1"]) if run.info.run_name == "candidate"]
    assert [run.info.status for run in runs] == ["FINISHED"], "what became no version is gone, with its run"
    assert runs[0].info.run_id == version.run_id and runs[0].data.tags[PENDING] == "no"
    assert [p.read_bytes() for p in (root / "mlartifacts").rglob("basis.safetensors")] == [b"one"], "one copy of it"


KILLED_WITHDRAWING = """
import os, signal, sys
from pathlib import Path
from lorweb.serving import versions
from lorweb.serving.artifacts import content_hash
from lorweb.serving.registry import Registry
from tests.serving.test_registry import candidate
root = Path(sys.argv[1])
client = Registry("lorweb", root).client
submission = candidate(root, "one")
number = versions.make_version(client, "lorweb", root, submission, content_hash(submission.folder))
if sys.argv[2] == "withdrawing":
    client.delete_model_version = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
else:
    versions.try_to_remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
versions.withdraw(client, "lorweb", number)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("at", "copies"), [("withdrawing", 2), ("removing", 1)])
def test_what_a_killed_process_had_taken_back_goes_and_what_a_version_names_stays(root, at, copies, monkeypatch):
    monkeypatch.setattr(orphans, "GRACE", -1.0)
    registry = Registry("lorweb", root)
    first = registry.submit(candidate(root, "one"))
    words = [sys.executable, "-c", KILLED_WITHDRAWING, str(root), at]
    assert subprocess.run(words, cwd=REPO, env=os.environ, check=False).returncode == -signal.SIGKILL
    stored = root / "mlartifacts"
    assert len(list(stored.rglob("basis.safetensors"))) == 2
    assert registry.submit(candidate(root, "one")).number == first.number
    assert len(list(stored.rglob("basis.safetensors"))) == len(registry.versions()) == copies
    assert all((registry.folder(version) / "basis.safetensors").is_file() for version in registry.versions())
    assert not [run for run in registry.client.search_runs(["1"]) if run.data.tags.get(PENDING) == "yes"]


def test_of_a_place_that_two_machines_may_have_nothing_is_deleted(monkeypatch):
    monkeypatch.setattr(orphans, "place", lambda: "host")
    assert orphans.remove_pending(None, "1") == []


def test_what_cannot_be_tidied_fails_nothing(monkeypatch, caplog):
    """Another process was faster, or a store raises an error of its own."""
    run = SimpleNamespace(info=SimpleNamespace(run_id="abc"), data=SimpleNamespace(tags={"owner_pid": "1"}))

    class Client:
        def search_runs(self, *_: object, **__: object) -> list[SimpleNamespace]:
            return [run]

        def set_terminated(self, *_: object) -> None:
            raise MlflowException("The run abc must be in the 'active' state. Current state is deleted.")

    def refuse(*_: object) -> None:
        raise RuntimeError("AccessDenied")

    monkeypatch.setattr(orphans, "lives", lambda _: False)
    monkeypatch.setattr(orphans, "remove_run", refuse)
    assert orphans.close_orphans(Client(), "1") == []
    assert not orphans.try_to_remove(Client(), run) and "cannot be removed: AccessDenied" in caplog.text
