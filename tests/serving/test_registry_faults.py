"""What is wrong with a registry is said in a sentence: locked, read-only, of another MLflow, files gone or damaged."""

import shutil
import sqlite3
import threading
import time

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from lorweb.serving import tracking
from lorweb.serving.artifacts import resolve
from lorweb.serving.fetched import NotWhole
from lorweb.serving.registry import ROLLED_BACK, Registry, State, Version
from tests.serving.test_registry import candidate


@pytest.fixture
def registry(root) -> Registry:
    found = Registry("lorweb", root)
    for text in ("one", "two"):
        found.submit(candidate(root, text))
    found.promote(found.by_number(1))
    return found


@pytest.mark.slow
def test_a_database_that_is_locked_for_a_while_is_waited_for(registry, root):
    other = sqlite3.connect(root / "mlflow.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(2.0, lambda: other.execute("COMMIT"))
    timer.start()
    begun = time.monotonic()
    registry.promote(registry.by_number(2))
    assert time.monotonic() - begun > 1.5 and registry.aliases.read() == State(2, 1)
    timer.join()
    other.close()


@pytest.mark.slow
def test_a_database_that_stays_locked_is_a_sentence(registry, root, monkeypatch):
    monkeypatch.setattr(tracking, "WAIT", 0.0)  # MLflow's own 20 s are waited all the same
    other = sqlite3.connect(root / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ValueError, match=r"mlflow.db stayed locked by another process .* run the same command again"):
        registry.promote(registry.by_number(2))
    other.execute("COMMIT")
    other.close()
    assert registry.settle() == State(1, None)


def test_a_lock_is_tried_again_without_end_of_patience_and_no_other_fault_is(monkeypatch):
    monkeypatch.setattr(tracking, "PAUSES", (0.0,))
    calls = []

    def fails(text: str, times: int) -> str:
        calls.append(text)
        if len(calls) <= times:
            raise MlflowException(text)
        return "answered"

    assert tracking.patiently("x", fails, "(sqlite3.OperationalError) database is locked", 4) == "answered"
    assert len(calls) == 5
    calls.clear()
    with pytest.raises(MlflowException, match="no such thing"):
        tracking.patiently("x", fails, "no such thing", 4)
    assert len(calls) == 1


def test_what_sqlite_says_of_a_read_only_database_is_understood(root):
    other = sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as raised:
        other.execute("DELETE FROM alembic_version")
    other.close()
    assert "can only be read" in (tracking.fault_of(str(raised.value), "sqlite:///mlflow.db") or "")


def test_a_database_of_another_mlflow_is_named_with_the_command_that_upgrades_it(root):
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")  # a revision of long ago
    with pytest.raises(ValueError, match=r"another version of MLflow than this one; copy it away, then run `mlflow db"):
        Registry("lorweb", root).versions()


@pytest.mark.slow
def test_files_that_were_changed_or_are_gone_are_named(registry, root):
    uri = "models:/lorweb@champion"
    (weights,) = (path for path in root.rglob("mlartifacts/**/basis.safetensors") if path.read_bytes() == b"one")
    weights.write_bytes(b"One")
    with pytest.raises(ValueError, match=r"is damaged: its files have the content hash .* `lorweb registry rollback`"):
        resolve(uri, root)
    (weights.parent / "metadata.json").unlink()
    with pytest.raises(ValueError, match=r"is damaged: .* has no metadata.json"):
        resolve(uri, root)
    weights.unlink()
    with pytest.raises(ValueError, match=r"holds no basis.safetensors"):
        resolve(uri, root)
    shutil.rmtree(root / "mlartifacts")
    with pytest.raises(ValueError, match=r"models:/lorweb@champion cannot be had"):
        resolve(uri, root)


def damage(root, text: str) -> None:
    """Change the stored weights of the versions with these bytes."""
    for path in root.rglob("mlartifacts/**/basis.safetensors"):
        if path.read_bytes() == text.encode():
            path.write_bytes(b"other")


@pytest.mark.slow
@pytest.mark.parametrize("harm", [damage, lambda root, text: shutil.rmtree(root / "mlartifacts")])
def test_a_version_whose_files_are_not_whole_does_not_become_the_champion(registry, root, harm):
    with pytest.raises(NotWhole, match=r"models:/lorweb/9 cannot be had .* Nothing was moved: version 1 stays"):
        registry.promote(Version(9, "", (), ""))
    registry.promote(registry.by_number(2))
    harm(root, "one")
    stays = r"models:/lorweb/1 (is damaged|cannot be had).*\. Nothing was moved: version 2 stays the champion"
    with pytest.raises(NotWhole, match=stays):
        registry.rollback()
    with pytest.raises(NotWhole, match=stays):
        registry.promote(registry.by_number(1))
    assert registry.aliases.read() == State(2, 1) and ROLLED_BACK not in registry.by_number(2).tags
    assert [move.kind for move in registry.moves()] == ["promote", "promote"]


@pytest.mark.slow
def test_known_bytes_whose_files_are_not_whole_are_registered_anew(registry, root, caplog):
    registry.promote(registry.by_number(2))
    registry.rollback()
    damage(root, "two")
    again = registry.submit(candidate(root, "two"))
    assert again.number == 3 and again.aliases == ("candidate",) and again.content == registry.by_number(2).content
    assert "models:/lorweb/2 is damaged" in caplog.text
    assert ROLLED_BACK in again.tags, "other files of what was rolled back are not promoted by themselves either"
    assert registry.submit(candidate(root, "two")).number == 3 and len(registry.versions()) == 3
    assert registry.promote(again) and (registry.folder(again) / "basis.safetensors").read_bytes() == b"two"
    assert registry.aliases.read() == State(3, 1) and ROLLED_BACK not in registry.by_number(3).tags


@pytest.mark.slow
def test_a_decision_whose_run_or_file_is_gone_is_none(registry, root):
    assert registry.decisions.read("0" * 32, "decision.json") is None
    assert registry.decisions.read("", "decision.json") is None
    run = registry.moves()[0].why.run
    assert registry.decisions.read(run, "decision.json")["decision"] == "promote"
    assert registry.decisions.read(run, "evidence.json") is None
    shutil.rmtree(root / "mlartifacts")
    assert registry.decisions.read(run, "decision.json") is None


@pytest.mark.slow
def test_a_decision_that_cannot_be_read_is_not_taken_for_none(registry, root, monkeypatch):
    run = registry.moves()[0].why.run
    (path,) = root.rglob(f"mlartifacts/{run}/artifacts/decision.json")
    path.write_text('{"decision": "pro')
    with pytest.raises(ValueError, match=rf"decision.json of the decision in run {run} cannot be read .* restore it"):
        registry.decisions.read(run, "decision.json")
    path.write_text('{"decision": "promote"}')
    real, calls = mlflow.artifacts.download_artifacts, []

    def locked_once(**named):
        calls.append(named)
        if len(calls) == 1:
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return real(**named)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", locked_once)
    assert registry.decisions.read(run, "decision.json") == {"decision": "promote"} and len(calls) == 2


@pytest.mark.slow
def test_a_model_that_is_logged_again_after_a_lock_is_there_once(registry, root, monkeypatch):
    real, calls = mlflow.log_metrics, []

    def locked_once(*words, **named):
        calls.append(words)
        if len(calls) == 1:
            raise MlflowException("(sqlite3.OperationalError) database is locked")
        return real(*words, **named)

    monkeypatch.setattr(mlflow, "log_metrics", locked_once)
    version = registry.submit(candidate(root, "three"))
    assert len(calls) == 2 and (registry.folder(version) / "basis.safetensors").read_bytes() == b"three"
    weights = [path for path in root.rglob("mlartifacts/**/basis.safetensors") if path.read_bytes() == b"three"]
    assert len(weights) == 1, "the first try has left its files"
    found = registry.client.search_runs(["1"])
    assert not [run for run in found if run.info.status == "FAILED"] and version.run_id in [
        r.info.run_id for r in found
    ]
