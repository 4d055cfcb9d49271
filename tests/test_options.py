"""docs/options.md names every option once, and says of each what the committed evidence says."""

import json
import re

import pytest
import yaml

from lorweb.config import Params
from pipelines._record import RECORD
from pipelines._stage import StageFailed, stage
from tests.options_meaning import meanings
from tests.options_model import Option, all_options, used
from tests.options_table import EVIDENCE, MAKE_RUN, PAGE, PLACES, ROOT, exists, merge, page, read_evidence, recorded

DEFAULT = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_the_page_is_what_the_evidence_says():
    assert PAGE.read_text(encoding="utf-8") == page(read_evidence()), "run python -m tests.options_table"


def test_every_option_is_a_row():
    rows = re.findall(r"^\| `(\S+)` \| (?:`([^|]+)`)? \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert [Option(key, value or "any") for key, value in rows] == all_options()
    assert len(set(rows)) == len(rows) > 400
    names = {re.sub(r"\[.*?\]", "", part) for option in all_options() for part in option.key.split(".")}
    schema = Params.model_json_schema()  # pydantic's own list of keys
    keys = {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}
    assert len(keys) > 100 and keys <= names


def test_evidence_is_of_options_and_tests_that_are_there():
    tree, known = json.loads(EVIDENCE.read_text(encoding="utf-8")), set(all_options())
    assert set(tree) == set(PLACES) and len(tree["cpu"]) > 100
    for found in tree.values():
        gone = {
            text: where for text, where in found.items() if Option(*text.split(" = ")) not in known or not exists(where)
        }
        assert not gone, "record again: make options"


def test_the_default_uses_options_that_exist():
    for section in DEFAULT:
        found = used(section, DEFAULT)
        assert found and found <= set(all_options())
    train = used("train", DEFAULT)
    assert Option("train.ema", "null") in train and Option("train.ema", "any") not in train
    assert Option("train.caption_dropout", "1") in train and Option("train.workers", "1") in train
    assert Option("collect.readers[dicebear].seeds", "any") in used("collect", DEFAULT)


def changed(section, **values):
    return {**DEFAULT, section: {**DEFAULT[section], **values}}


def line(stage, params, **told):
    return json.dumps(
        {"stage": stage, "test": "tests/a/test_b.py::test_c[x] (call)", "cuda": False, "params": params} | told
    )


def test_a_gpu_that_is_not_there_proves_nothing_of_gpus():
    params = changed("train", gpus_per_worker=1, precision="bfloat16")
    asked, other = Option("train.gpus_per_worker", "> 0"), Option("train.precision", "bfloat16")
    on_cpu = {(place, option) for place, option, _ in recorded([line("train", params)])}
    assert ("cpu", other) in on_cpu and not {place for place, option in on_cpu if option == asked}
    on_gpu = {(place, option) for place, option, _ in recorded([line("train", params, cuda=True)])}
    assert {("gpu", asked), ("gpu", other)} <= on_gpu and {place for place, _ in on_gpu} == {"gpu"}
    beside = recorded([line("train", DEFAULT, cuda=True)])  # a GPU is there, nobody asks for it
    assert {place for place, _, _ in beside} == {"cpu"}


def test_a_worker_alone_proves_nothing_of_workers():
    keys = {option.key for _, option, _ in recorded([line("train", DEFAULT, worker=True)])}
    assert "train.ema" in keys and not {"train.workers", "train.gpus_per_worker"} & keys


def test_evidence_does_not_depend_on_the_order():
    option = Option("train.ema", "null")
    told = [("cpu", option, where) for where in ("b/test_b.py::test_b", MAKE_RUN, "by hand", "a/test_a.py::test_a")]
    for without in (told, [t for t in told if t[2] != MAKE_RUN]):
        for order in (without, without[::-1]):
            evidence = {"cpu": {}, "gpu": {}}
            merge(evidence, order)
            assert evidence["cpu"] == {option: MAKE_RUN if without is told else "a/test_a.py::test_a"}
    assert next(recorded([line("seed", DEFAULT)]))[2] == "a/test_b.py::test_c"


def test_a_stage_leaves_a_line_when_it_ends_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed("collect", size=99)), encoding="utf-8")
    monkeypatch.setenv(RECORD, str(tmp_path / "ran.jsonl"))
    with stage("collect"):
        pass
    with pytest.raises(SystemExit), stage("filter"):
        raise StageFailed("no")
    monkeypatch.delenv(RECORD)
    with stage("encode"):
        pass
    (told,) = [json.loads(line) for line in (tmp_path / "ran.jsonl").read_text().splitlines()]
    assert told["stage"] == "collect" and told["params"]["collect"]["size"] == 99
    assert "test_a_stage_leaves_a_line" in told["test"]


def test_meanings_are_the_comments_of_the_parameter_file():
    found = meanings()
    assert (
        found["train.basis.n_loras"] == "N ([P] 32)"
        and found["collect.readers[photos].reader"] == "crops per packaged photo"
    )
    assert "train.basis.heads" not in {key for key, words in found.items() if words}
