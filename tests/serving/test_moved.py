"""A project folder that is moved or copied keeps its champion, its evidence and its history, and only its own files."""

import shutil
import sqlite3
from pathlib import Path

import mlflow
import pytest

from lorweb.serving.artifacts import resolve
from lorweb.serving.moved import follow
from lorweb.serving.registry import Registry, State
from lorweb.serving.tracking import tracking_uri
from tests.serving.test_registry import candidate

CHAMPION = "models:/lorweb@champion"


@pytest.fixture
def old(root: Path) -> Path:
    """A project with a champion that was judged, in a folder whose name has a space and a letter of its own."""
    folder = root / "my prôject"
    folder.mkdir()
    (root / "mlflow.db").rename(folder / "mlflow.db")
    add(folder, "one")
    return folder


def add(folder: Path, text: str) -> None:
    registry = Registry("lorweb", folder)
    version = registry.submit(candidate(folder, text))
    registry.record(version, "judged", {"evidence.json": {"of": text}}, {})
    registry.promote(version)


def texts(database: Path) -> str:
    with sqlite3.connect(database) as connection:
        return "\n".join(connection.iterdump())


@pytest.mark.slow
def test_a_moved_project_keeps_its_champion_evidence_history_and_writes_at_its_new_place(old, root, caplog):
    add(old, "two")
    new = root / "else %41 wh?re é#1"
    old.rename(new)
    assert resolve(CHAMPION, new).is_relative_to(new) and (resolve(CHAMPION, new) / "metadata.json").is_file()
    assert [record.getMessage() for record in caplog.records if "belonged to" in record.getMessage()] == [
        f"lorweb: {new / 'mlflow.db'} belonged to {old}; its paths now point at {new / 'mlartifacts'}"
    ]
    registry = Registry("lorweb", new)
    assert registry.evidence(registry.by_alias("champion")) == {"of": "two"}
    assert registry.decisions.read(registry.moves()[0].why.run, "decision.json")["decision"] == "promote"
    assert registry.rollback()[0].number == 1 and registry.aliases.read() == State(1, 2)
    assert resolve(CHAMPION, new).joinpath("basis.safetensors").read_bytes() == b"one"
    assert old.as_uri() not in texts(new / "mlflow.db") and not old.exists()
    mlflow.set_tracking_uri(tracking_uri(new))  # without lorweb, as `mlflow models serve` looks for it
    found = mlflow.artifacts.download_artifacts(artifact_uri=CHAMPION)
    assert Path(found).is_relative_to(new)


@pytest.mark.slow
def test_a_copy_is_a_project_of_its_own(old, root):
    new = root / "copy"
    shutil.copytree(old, new)
    before = texts(old / "mlflow.db"), sorted(old.rglob("*"))
    add(new, "three")
    assert resolve(CHAMPION, new).is_relative_to(new)
    assert (texts(old / "mlflow.db"), sorted(old.rglob("*"))) == before
    assert resolve(CHAMPION, old).is_relative_to(old)


def test_what_has_not_moved_is_left_alone(old, root):
    link = root / "link"
    link.symlink_to(old)
    shutil.copy2(old / "mlflow.db", root / "mlflow.db")  # a copy of the database only: its files stay where they are
    (root / "mlartifacts").mkdir()
    foreign = root / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE experiments (name TEXT)")
    (root / "empty.db").touch()
    for file in (old / "mlflow.db", link / "mlflow.db", root / "mlflow.db", foreign, root / "empty.db", root / "no.db"):
        before = file.read_bytes() if file.exists() else b""
        assert follow(f"sqlite:///{file}") is None
        assert (file.read_bytes() if file.exists() else b"") == before
    assert follow("http://127.0.0.1:9") is None


def test_nothing_changes_where_the_move_cannot_be_written(old, root, monkeypatch):
    new = root / "elsewhere"
    old.rename(new)
    before = texts(new / "mlflow.db")
    with sqlite3.connect(new / "mlflow.db") as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON model_versions BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    with pytest.raises(ValueError, match=r"mlflow.db cannot be used \(disk is full\)"):
        resolve(CHAMPION, new)
    with sqlite3.connect(new / "mlflow.db") as connection:
        connection.execute("DROP TRIGGER full")
    assert texts(new / "mlflow.db") == before
