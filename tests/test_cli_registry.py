"""`lorweb registry` on a real registry: what it prints for people and for machines, and its exit codes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorweb.serving.registry import Registry
from tests.cli_cases import run
from tests.serving.conftest import fresh_database, root, scratch  # noqa: F401  fixtures
from tests.serving.test_registry import candidate


@pytest.fixture
def desk(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A project with two versions and no champion, as the working folder."""
    monkeypatch.chdir(root)
    for text in ("one", "two"):
        Registry("lorweb", root).submit(candidate(root, text))
    return root


@pytest.fixture(scope="module")
def crowded(fresh_database) -> Iterator[Path]:  # noqa: F811
    """The same, made once, for what changes nothing."""
    folder = scratch()
    shutil.copy2(fresh_database, folder / "mlflow.db")
    for text in ("one", "two"):
        Registry("lorweb", folder).submit(candidate(folder, text))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_by_hand_and_back(desk, capsys):
    assert run(capsys, "registry", "promote", "1", "--reason", "a start")[:2] == (
        0,
        "lorweb version 1 is the champion\n",
    )
    code, out, _ = run(capsys, "registry", "promote", "2", "--reason", "better skies", "--by", "ann", "--json")
    assert code == 0 and json.loads(out) == {"model": "lorweb", "champion": 2, "previous": 1}
    code, out, _ = run(capsys, "registry", "rollback", "--reason", "banding")
    assert (code, out) == (0, "lorweb version 1 is the champion again\n")

    code, out, err = run(capsys, "registry", "rollback")
    assert code == 1 and not out and "`lorweb registry promote 2 --reason TEXT` brings it back" in err

    code, out, _ = run(capsys, "registry", "list", "--json")
    one, two = json.loads(out)
    assert (one["version"], one["aliases"], one["state"]) == (1, ["champion"], "")
    assert (two["version"], two["aliases"], two["state"]) == (2, ["candidate", "previous"], "rolled back")
    code, out, _ = run(capsys, "registry", "list")
    first, second = out.splitlines()
    assert code == 0 and first.startswith(f"1  {one['content'][:12]}  champion") and second.endswith("rolled back")

    code, out, _ = run(capsys, "registry", "history", "--json")
    events = json.loads(out)
    assert code == 0 and [(e["what"], e["from"], e["to"], e["why"]) for e in events] == [
        ("promote", None, 1, "a start"),
        ("promote", 1, 2, "better skies"),
        ("rollback", 2, 1, "banding"),
    ]
    assert events[1]["by"] == "ann" and "@" in events[0]["by"]
    assert run(capsys, "registry", "history")[1].splitlines()[1].endswith("promote  1  2  ann  better skies")


def test_a_version_is_shown_with_its_files(desk, capsys):
    run(capsys, "registry", "promote", "2", "--reason", "a start")
    code, out, _ = run(capsys, "registry", "show", "--json")
    shown = json.loads(out)
    assert code == 0 and (shown["version"], shown["files"], shown["tags"]["git_commit"]) == (2, "whole", "abc")
    code, out, _ = run(capsys, "registry", "show", "1")
    assert code == 0 and "git_commit  abc" in out and "files  whole" in out
    shutil.rmtree(desk / "mlartifacts")
    code, out, err = run(capsys, "registry", "show", "champion")
    assert code == 1 and "models:/lorweb/2 cannot be had" in out and "cannot be had" in err
    code, out, _ = run(capsys, "registry", "show", "champion", "--json")
    damaged = json.loads(out)
    assert code == 1 and damaged["version"] == 2 and "cannot be had" in damaged["error"] == damaged["files"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("promote", "7", "--reason", "x"), 1, "lorweb has no version 7; there are [1, 2]"),
        (("promote", "1"), 2, "--reason"),
        (("promote", "first", "--reason", "x"), 2, "Invalid value"),
        (("rollback",), 1, "has no previous champion to roll back to"),
        (("show",), 1, "no version of lorweb is champion; see `lorweb registry list`"),
        (("show", "champoin"), 1, "unknown alias 'champoin'; did you mean 'champion'?"),
        (("history",), 1, "nothing was decided about lorweb yet"),
        (("list", "--name", "other"), 1, "no version of other is registered yet"),
        (("lst",), 2, "lst"),
    ],
)
def test_what_cannot_be_done_is_said(crowded, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(crowded)
    found, out, err = run(capsys, "registry", *words)
    assert found == code and message in err and not out


def test_a_damaged_version_is_not_promoted(desk, capsys):
    for path in desk.rglob("mlartifacts/**/basis.safetensors"):
        path.write_bytes(b"other")
    code, _, err = run(capsys, "registry", "promote", "1", "--reason", "x")
    assert code == 1 and "models:/lorweb/1 is damaged" in err
    assert Registry("lorweb", desk).by_alias("champion") is None
    assert json.loads(run(capsys, "registry", "list", "--name", "other", "--json")[1]) == []
