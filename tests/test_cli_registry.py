"""`lorweb registry` on a real registry: what it prints for people and for machines, and its exit codes."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorweb.cli_versions import history_rows, list_rows, print_table, show_rows
from lorweb.serving.registry import Registry
from tests.cli_cases import run
from tests.ram_disk import scratch
from tests.serving.conftest import fresh_database, root  # noqa: F401  fixtures
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
    told = {"model": "lorweb", "champion": 2, "previous": 1}
    assert code == 0 and json.loads(out) == {**told, "moved": True}
    again = ("registry", "promote", "2", "--reason", "twice")
    assert run(capsys, *again)[:2] == (0, "lorweb version 2 was the champion already; nothing was recorded\n")
    assert json.loads(run(capsys, *again, "--json")[1]) == {**told, "moved": False}
    code, out, _ = run(capsys, "registry", "rollback", "--reason", "banding")
    assert (code, out) == (0, "lorweb version 1 is the champion again\n")

    code, out, err = run(capsys, "registry", "rollback")
    assert code == 1 and not out and "`lorweb registry promote 2 --reason TEXT` brings it back" in err

    code, out, _ = run(capsys, "registry", "list", "--json")
    one, two = json.loads(out)
    assert (one["version"], one["aliases"], one["state"]) == (1, ["champion"], "")
    assert (two["version"], two["aliases"], two["state"]) == (2, ["candidate", "previous"], "rolled back")
    code, out, _ = run(capsys, "registry", "list")
    made = f"{one['made'][:16].replace('T', ' ')} UTC"
    heading, first, second = (line.split("  ") for line in out.splitlines())
    words = [[word.strip() for word in line if word] for line in (heading, first, second)]
    assert code == 0 and words[0] == ["version", "aliases", "made", "decision", "content"]
    assert words[1] == ["1", "champion", made, one["content"][:12]]
    assert [words[2][at] for at in (1, 3, 4)] == ["candidate, previous", "rolled back", two["content"][:12]]

    code, out, _ = run(capsys, "registry", "history", "--json")
    events = json.loads(out)
    assert code == 0 and [(e["what"], e["from"], e["to"], e["why"]) for e in events] == [
        ("promote", None, 1, "a start"),
        ("promote", 1, 2, "better skies"),
        ("rollback", 2, 1, "banding"),
    ]
    assert events[1]["by"] == "ann" and "@" in events[0]["by"]
    lines = run(capsys, "registry", "history")[1].splitlines()
    assert lines[0].split() == ["at", "what", "from", "to", "by", "why"]
    assert lines[1].split()[3:6] == ["promote", "-", "1"] and lines[2].split()[4:] == [
        "1",
        "2",
        "ann",
        "better",
        "skies",
    ]


@pytest.mark.slow
def test_a_version_is_shown_with_its_files(desk, capsys):
    run(capsys, "registry", "promote", "2", "--reason", "a start")
    code, out, _ = run(capsys, "registry", "show", "--json")
    shown = json.loads(out)
    assert code == 0 and (shown["version"], shown["files"], shown["tags"]["git_commit"]) == (2, "whole", "abc")
    code, out, _ = run(capsys, "registry", "show", "1")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith("git commit"))
    assert code == 0 and rows["files"] == "whole" and re.search(r"^git commit +abc$", out, re.M)
    assert len(rows["content"]) == 12 and not re.search(r"[0-9a-f]{17}", out)
    shutil.rmtree(desk / "mlartifacts")
    code, out, err = run(capsys, "registry", "show", "champion")
    assert code == 1 and "models:/lorweb/2 cannot be had" in out and "cannot be had" in err
    code, out, _ = run(capsys, "registry", "show", "champion", "--json")
    damaged = json.loads(out)
    assert code == 1 and damaged["version"] == 2 and "cannot be had" in damaged["error"] == damaged["files"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("promote", "7", "--reason", "x"), 1, "lorweb has no version 7; there are [1, 2]"),
        (("promote", "1"), 2, "--reason"),
        (("promote", "first", "--reason", "x"), 2, "Invalid value"),
        (("rollback",), 1, "has no previous champion to roll back to"),
        (("show",), 1, "no version of lorweb is champion; see `lorweb registry list`"),
        (("show", "champoin"), 1, "unknown alias 'champoin'; did you mean 'champion'?"),
        (("show", "²"), 1, "unknown alias '²'"),
        (("history",), 1, "nothing was decided about lorweb yet"),
        (("list", "--name", "other"), 1, "no version of other is registered yet"),
        (("lst",), 2, "lst"),
    ],
)
def test_what_cannot_be_done_is_said(crowded, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(crowded)
    found, out, err = run(capsys, "registry", *words)
    assert found == code and message in err and not out
    found, out, again = run(capsys, "registry", *words, "--json")
    assert found == code and again == err and message in json.loads(out)["error"]


@pytest.mark.slow
def test_a_damaged_version_is_neither_promoted_nor_rolled_back_to(desk, capsys):
    for number in ("1", "2"):
        run(capsys, "registry", "promote", number, "--reason", "x")
    for path in desk.rglob("mlartifacts/**/basis.safetensors"):
        path.write_bytes(b"other")
    code, _, err = run(capsys, "registry", "promote", "1", "--reason", "x")
    assert code == 1 and "models:/lorweb/1 is damaged" in err
    code, out, err = run(capsys, "registry", "rollback", "--reason", "x")
    assert code == 1 and not out and "Nothing was moved: version 2 stays the champion" in err
    assert Registry("lorweb", desk).by_alias("champion").number == 2


REFUSED = {
    "version": 3,
    "aliases": ["champion"],
    "content": "0123456789abcdef" * 4,
    "run": "fedcba9876543210" * 2,
    "made": "2026-03-01T10:20:30+00:00",
    "state": "refused",
    "files": "whole",
    "decision": {"reasons": ["seen: worse", "unseen: worse"]},
    "tags": {
        "licences": '{"CC0-1.0": 3, "CC-BY-2.0": 11}',
        "dvc_lock_sha256": "ab" * 32,
        "decision_reasons": "seen: worse | unseen: worse",
        "content_sha256": "0123456789abcdef" * 4,
        "ray_job_id": "",
        "mlflow.user": "ann",
    },
}


def test_a_version_is_told_once_and_no_longer_than_needed():
    assert list(list_rows([REFUSED])) == [
        ("3", "champion", "2026-03-01 10:20 UTC", "refused, then promoted by hand", "0123456789ab")
    ]
    assert list(show_rows(REFUSED)) == [
        ("version", "3"),
        ("aliases", "champion"),
        ("made", "2026-03-01 10:20 UTC"),
        ("files", "whole"),
        ("decision", "refused, then promoted by hand"),
        ("", "- seen: worse"),
        ("", "- unseen: worse"),
        ("content", "0123456789ab"),
        ("run", "fedcba987654"),
        ("dvc lock sha256", "abababababab"),
        ("licences", "CC-BY-2.0 11, CC0-1.0 3"),
    ]


def test_a_line_of_the_history_has_one_reason_and_the_way_to_the_others():
    event = {"at": REFUSED["made"], "what": "refused", "from": None, "to": 3, "by": "ann", "why": "seen: worse | b | c"}
    (line,) = history_rows([event])
    assert line == (
        "2026-03-01 10:20 UTC", "refused", "-", "3", "ann", "seen: worse (and 2 more: lorweb registry show 3)",
    )  # fmt: skip
    assert next(history_rows([{**event, "what": "promote", "why": "faces | skies"}]))[-1] == "faces | skies"


def test_columns_stand_below_each_other_also_under_wide_letters(capsys):
    print_table(("by", "why"), [("日本", "two\nlines"), ("ann", "x\x1b[2J")])
    assert capsys.readouterr().out == "by    why\n日本  two lines\nann   x[2J\n"
