"""Invented tasks through the stage: replies are a job of their own, and editors follow what was understood."""

import json

import pytest

from lorweb.data.shards import read_table
from lorweb.data.tasks import read_tasks
from lorweb.records import PAIR, REJECT
from pipelines import generate
from pipelines._rows import in_process
from tests.model_folders import save_taught_llm, save_tiny_llm
from tests.pipelines.projects import POOL, write_params
from tests.pipelines.test_generate_editors import EMBEDDED, KONTEXT

pytestmark = pytest.mark.slow

REPLY = """[
{"id": "style/chalk-board", "edit_type": "style", "instructions": ["draw it in chalk", "make it a chalk drawing"]},
{"id": "style/loud", "edit_type": "noise", "instructions": ["make it loud", "turn it up"]},
{"id": "weather/sand-storm", "edit_type": "weather", "instructions": ["put it in a sand storm", "let sand blow"]}
]
"""


def instructions(folder, **changes):
    llm = {
        "source": "llm", "model": str(folder), "tasks": 6, "per_call": 3, "max_new_tokens": 24, "max_words": 12,
        "temperature": 0.1, "dtype": "float32", "pool": POOL,
    }  # fmt: skip
    return {"instructions": {**llm, **changes}, "editors": [{**KONTEXT, "tasks": ["*"]}], "sources_per_task": 2}


def test_what_a_model_invents_becomes_pairs(project, tmp_path):
    write_params(project, {"generate": instructions(save_taught_llm(tmp_path / "llm", REPLY))})
    generate.main(in_process)
    pairs = read_table(project / "data/candidates", PAIR).to_pylist()
    assert len(pairs) == 4 and {pair["task"] for pair in pairs} == {"style/chalk-board", "weather/sand-storm"}
    assert all(pair["instruction"] in REPLY for pair in pairs)
    facts = read_tasks(project / "data/candidates")
    assert {name: f.holdout for name, f in facts.items()} == dict.fromkeys(facts, None)
    told = json.loads((project / "metrics/generate.json").read_text())["instructions"]
    assert told == {"source": "llm", "replies": 2, "kept": 2, "rejected": {"duplicate": 2, "unknown_family": 2}}
    rejects = {row["id"]: row["check"] for row in read_table(project / "data/candidates/rejects", REJECT).to_pylist()}
    assert rejects == {
        "reply-00000#1": "unknown_family", "reply-00001#0": "duplicate", "reply-00001#1": "unknown_family",
        "reply-00001#2": "duplicate",
    }  # fmt: skip


def test_replies_are_journalled_and_more_tasks_add_calls(project, tmp_path):
    folder = save_tiny_llm(tmp_path / "llm")
    for tasks, calls in ((6, 2), (9, 3)):
        write_params(project, {"generate": instructions(folder, tasks=tasks)})
        with pytest.raises(
            SystemExit, match=rf"no valid task in {calls} replies \({{'not_json': {calls}}}\).*reply-00000: "
        ):
            generate.main(in_process)
    (journal,) = (project / ".work/generate").glob("instruct-*")
    assert len(list(journal.glob("rows-*.arrow"))) == 2, "the first two replies were kept"


def test_who_cannot_follow_instructions_is_refused(project):
    for editors, words in (
        ([EMBEDDED, KONTEXT], "'embedded' knows the named edits of the catalogue"),
        ([{"editor": "given", "tasks": ["*"], "pool": POOL}], "nobody would follow the instructions"),
    ):
        write_params(project, {"generate": {**instructions("none"), "editors": editors}})
        with pytest.raises((SystemExit, ValueError), match=words):
            generate.main(in_process)
