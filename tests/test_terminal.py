"""What others wrote does nothing to a terminal: file names, metadata of pictures, records."""

import io
import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lorweb import cli
from lorweb.cli_output import say, sentence_of
from lorweb.provenance import png_with_facts
from lorweb.terminal import escaped, first_line, plain
from lorweb.trace.show import tree_of
from tests.cli_cases import IMAGES, run, working_folder
from tests.kontext_tiny import drawn_image

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m[/nothing][red]\u202egnp\\"


@given(st.text())
def test_json_means_the_same_with_its_control_codes_escaped(text):
    told = escaped(json.dumps({"x": text}, indent=1, ensure_ascii=False))
    assert json.loads(told) == {"x": text} and plain(told) == told
    assert set(plain(text)) <= set(text)


def test_an_error_that_says_nothing_has_a_name():
    assert first_line(RuntimeError()) == first_line(RuntimeError(" \n")) == "RuntimeError"
    assert first_line(ValueError("one\ntwo")) == "one"


def test_too_little_memory_is_a_sentence_on_a_cpu_too():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    words = ("too little memory (DefaultCPUAllocator: ", "tried to allocate 1152921504606846976 bytes", "; stop other")
    said = sentence_of(refused.value)
    assert said is not None and all(part in said for part in words), said
    assert sentence_of(RuntimeError("a bug")) is None
    assert sentence_of(MemoryError("no room")).startswith("too little memory (no room); stop")


def shown(told: dict) -> str:
    out = io.StringIO()
    Console(file=out, soft_wrap=True, highlight=False, emoji=False).print(tree_of(told, everything=True))
    return out.getvalue()


def test_a_tree_shows_every_text_as_it_is():
    check = {"score": EVIL, "min": 0.1, "max": None, "edit_types": [EVIL], "value": None, "holds": False}
    span = {"mean": 1.0, "least": 0.0, "most": 2.0}
    row = {"id": EVIL, "licence": EVIL, "origin": EVIL, "pairs": 1}
    inner = {"id": EVIL, "rejects": [{"stage": EVIL, "check": EVIL, "reason": f"{EVIL}\nnotes a line of its own"}]}
    told = {
        "asked": EVIL,
        "kind": EVIL,
        "facts": {EVIL: EVIL, "inputs": {EVIL: {EVIL: EVIL}}, "other": {EVIL: EVIL}},
        "record": {EVIL: 1, "checks": [check], "scores": {EVIL: 1.0}, "source": inner,
                   "analogies": [{"as": EVIL, "id": EVIL, "split": EVIL}]},
        "model": {"folder": EVIL, "version": None, "base": EVIL},
        "lineage": {"git_commit": EVIL, "dvc_outs": {EVIL: EVIL}, "licences": {EVIL: 1}},
        "data": {
            "links": [{"made": EVIL, "source": EVIL, "expected": EVIL, "holds": True}],
            "training": {"pairs": EVIL, "tasks": 1, "derived_pairs": 0, "subjects": 1, "edit_types": {EVIL: 1},
                         "scores": {EVIL: span}, "checks": [check]},
        },
        "sources": {"count": 1, "licences": {EVIL: 1}, "origins": {EVIL: 1}, "categories": {EVIL: 1}, "list": [row]},
        "missing": [EVIL],
        "notes": [EVIL],
    }  # fmt: skip
    text = shown(told)
    assert plain(text) == text
    assert text.count("[/nothing][red]gnp\\") > 30, "as text, and no markup"
    assert not [line for line in text.splitlines() if line.lstrip(" │├└─").startswith("notes a line of its own")]


def test_a_picture_of_others_cannot_speak_to_the_terminal(tmp_path: Path, monkeypatch, capsys):
    working_folder(tmp_path, monkeypatch)
    facts = {"basis_sha256": EVIL, "model": EVIL, "prompt": EVIL}
    Path("x.png").write_bytes(png_with_facts(drawn_image(1), facts))
    code, out, err = run(capsys, "trace", "x.png")
    assert code == 1 and "[/nothing][red]" in out and plain(out + err) == out + err
    code, out, err = run(capsys, "trace", "x.png", "--json")
    assert json.loads(out)["facts"] == facts and plain(out + err) == out + err
    code, out, err = run(capsys, "reproduce", "x.png", *IMAGES)
    assert code == 1 and plain(out + err) == out + err
    code, out, err = run(capsys, "apply", "a.png", "a2.png", f"{EVIL}.png", "-o", "o.png", "--model", "gone")
    assert code == 1 and plain(out + err) == out + err


def test_a_name_cannot_begin_a_line_of_its_own_nor_move_the_cursor(capsys):
    say(f"a{EVIL}\nout.png: the same bytes\x85more", err=True)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "\x1b" not in err and "\x9b" not in err


def test_commands_speak_through_one_door():
    sources = sorted(Path(cli.__file__).parent.glob("cli*.py"))
    assert len(sources) > 5
    loud = [f"{path.name}: {line.strip()}" for path in sources for line in path.read_text().splitlines()
            if re.search(r"\btyper\.echo\(|\bprint\(", line) and "console" not in line.lower()]  # fmt: skip
    allowed = ("lorweb {lorweb.__version__}", "escaped(", "one_line(", "plain(sentence)", "{sentence}")
    assert [line for line in loud if not any(words in line for words in allowed)] == []
