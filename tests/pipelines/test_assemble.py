"""Assemble: real pairs into splits and analogies; what would leak stops the stage."""

import hashlib
import json
import shutil
from collections import Counter

import numpy as np
import pytest
import yaml

from lorweb.data.catalogue import load_catalogue
from lorweb.data.manifest import Manifest, read_manifest, write_manifest
from lorweb.data.shards import read_table, write_rows
from lorweb.records import ANALOGY, DERIVED, LOOK, PAIR, REJECT, TRAIN_PAIR, pack_features
from pipelines import assemble
from tests.pipelines.projects import contents, write_params

CHANGES = {"train_subjects": ["photo:astronaut"], "test_subjects": 0.4, "val_subjects": 0.3}


@pytest.fixture
def paired(project):
    """The candidates of the small project stand in for filtered pairs."""
    rows = read_table(project / "data/candidates", PAIR).to_pylist()
    write_rows(rows, project / "data/pairs", PAIR)
    write_rows([look(row, number) for number, row in enumerate(rows)], project / "data/pairs/look", LOOK)
    shutil.copy(project / "data/candidates/tasks.json", project / "data/pairs")
    write_manifest(project / "data/pairs", Manifest(len(rows), {}, {}, {}))
    write_params(project, {"assemble": CHANGES})
    return project


def look(row, number):
    """Hashes that are far from each other."""
    return {
        "id": row["id"],
        "before_hash": f"{number * 0x0F0F0F0F0F0F % 2**64:016x}",
        "after_hash": f"{number:016x}",
        "content": b"",
    }


def tasks_sha256(folder):
    return hashlib.sha256((folder / "data/pairs/tasks.json").read_bytes()).hexdigest()


@pytest.mark.slow
def test_training_and_evaluation_never_meet(paired):
    assemble.main()
    pairs = {row["id"]: row for row in read_table(paired / "data/pairs", PAIR).to_pylist()}
    train = read_table(paired / "data/analogies/train", TRAIN_PAIR).to_pylist()
    analogies = read_table(paired / "data/analogies", ANALOGY).to_pylist()
    split = json.loads((paired / "data/analogies/splits.json").read_text())
    holdout = {task.id: task.holdout for task in load_catalogue().tasks}
    assert train and {row["split"] for row in analogies} == {"val", "test"}
    assert {split[row["subject"]] for row in train} == {"train"}
    assert {holdout[row["task"]] for row in train} == {"none"}
    assert {"none", "value"} <= {row["holdout"] for row in analogies}
    for row in analogies:
        sides = {split[pairs[row[name]]["subject"]] for name in ("exemplar", "query")}
        assert sides == {"train" if row["subject_seen"] else row["split"]}
    metrics = json.loads((paired / "metrics/assemble.json").read_text())
    assert metrics["train_pairs"] == len(train) and sum(metrics["cells"].values()) == len(analogies)
    assert read_manifest(paired / "data/analogies")["params"]["catalogue_sha256"] == tasks_sha256(paired)


def test_again_the_same_bytes(paired):
    assemble.main()
    first = contents(paired / "data/analogies")
    assemble.main()
    assert contents(paired / "data/analogies") == first and len(first) == 7


def test_the_card_has_the_counts_and_licences_of_the_pairs(paired):
    assemble.main()
    text = (paired / "data/analogies/README.md").read_text(encoding="utf-8")
    rows = read_table(paired / "data/pairs", PAIR).to_pylist()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other" and yaml.safe_load(front)["size_categories"] == ["n<1K"]
    assert f"| pairs | {len(rows)} |" in body
    for licence, number in Counter(row["licence"] for row in rows).items():
        assert f"| {licence} | {number} |" in body
    for kind in {row["edit_type"] for row in rows}:
        own = [row for row in rows if row["edit_type"] == kind]
        assert f"| {kind} | {len({row['task'] for row in own})} | {len(own)} |" in body
    metrics = json.loads((paired / "metrics/assemble.json").read_text())
    assert f"can be drawn | {metrics['train_combinations']['analogies']:,} |" in body


def test_derived_tasks_are_trained_with_their_weights(paired):
    write_params(paired, {"assemble": {**CHANGES, "inverse": ["colour/*"], "composed": 2, "balance": "pairs"}})
    assemble.main()
    train = read_table(paired / "data/analogies/train", TRAIN_PAIR).to_pylist()
    derived = {row["pair"]: row for row in read_table(paired / "data/analogies/derived", DERIVED).to_pylist()}
    forward = {row["pair"]: row for row in train if row["pair"] not in derived}
    assert {row["task"] for row in train if row["task"].startswith("undo:")} == {
        f"undo:{row['task']}" for row in forward.values() if row["task"].startswith("colour/")
    }
    assert len({row["task"] for row in train if ">" in row["task"]}) == 2
    for row in derived.values():
        assert row["before_pair"] in forward and row["after_pair"] in forward
    count = Counter(row["task"] for row in train)
    assert all(row["weight"] == count[row["task"]] for row in train) and len(set(count.values())) > 1
    metrics = json.loads((paired / "metrics/assemble.json").read_text())
    assert metrics["derived_pairs"] == len(derived) > 0 and metrics["derived_tasks"] == len(count) - len(
        {row["task"] for row in forward.values()}
    )


def test_training_pairs_that_look_like_evaluated_ones_leave_with_a_reason(paired):
    assemble.main()
    train = read_table(paired / "data/analogies/train", TRAIN_PAIR).to_pylist()
    query = next(row for row in read_table(paired / "data/analogies", ANALOGY).to_pylist() if not row["subject_seen"])
    rows = {row["id"]: row for row in read_table(paired / "data/pairs/look", LOOK).to_pylist()}
    close = train[0]["pair"]
    rows[close]["before_hash"] = f"{int(rows[query['query']]['before_hash'], 16) ^ 1:016x}"
    write_rows(list(rows.values()), paired / "data/pairs/look", LOOK)
    assemble.main()
    assert len(read_table(paired / "data/analogies/train", TRAIN_PAIR)) == len(train)
    write_params(paired, {"assemble": {**CHANGES, "near_evaluation": {"distance": 1, "cosine": None}}})
    assemble.main()
    after = {row["pair"] for row in read_table(paired / "data/analogies/train", TRAIN_PAIR).to_pylist()}
    rejects = {row["id"]: row for row in read_table(paired / "data/analogies/rejects", REJECT).to_pylist()}
    assert close not in after and after | set(rejects) == {row["pair"] for row in train}
    assert rejects[close]["check"] == "near_evaluation" and rejects[close]["threshold"] == 1
    assert "looks like that of pair" in rejects[close]["reason"]


def test_training_pairs_with_the_content_of_evaluated_ones_leave_too(paired):
    write_params(paired, {"assemble": {**CHANGES, "near_evaluation": {"distance": 0, "cosine": 0.99}}})
    with pytest.raises(SystemExit, match=r"no scorer of filter\.scorers gives any"):
        assemble.main()
    rows = read_table(paired / "data/pairs/look", LOOK).to_pylist()
    rng = np.random.default_rng(0)
    features = {row["id"]: rng.normal(size=64).astype(np.float32) for row in rows}

    def write():
        write_rows([{**row, "content": pack_features(features[row["id"]])} for row in rows],
                   paired / "data/pairs/look", LOOK)  # fmt: skip
        assemble.main()
        return {row["pair"] for row in read_table(paired / "data/analogies/train", TRAIN_PAIR).to_pylist()}

    before = write()
    query = next(row for row in read_table(paired / "data/analogies", ANALOGY).to_pylist() if not row["subject_seen"])
    close = min(before)
    features[close] = 2 * features[query["query"]]
    assert write() == before - {close}
    (reject,) = read_table(paired / "data/analogies/rejects", REJECT).to_pylist()
    assert reject["id"] == close and reject["check"] == "near_evaluation_content" and reject["threshold"] == 0.99
    assert query["query"] in reject["reason"]


def test_a_leak_stops_the_stage_with_the_ids_and_publishes_nothing(paired, monkeypatch):
    honest = assemble.training_pairs

    def careless(pairs, split, holdout, caps):
        return honest(pairs, dict.fromkeys(split, "train"), holdout, caps)

    monkeypatch.setattr(assemble, "training_pairs", careless)
    with pytest.raises(
        SystemExit, match=r"leaks between splits:\n.*uses subject \S+ \(pair [0-9a-f]{16}\), which is trained"
    ):
        assemble.main()
    assert not (paired / "data/analogies").exists()


def test_rare_tasks_are_left_out_and_listed(paired):
    rows = read_table(paired / "data/pairs", PAIR).to_pylist()
    mirrored = [row["id"] for row in rows if row["task"] == "geometry/mirror"]
    rows = [row for row in rows if row["id"] not in mirrored[2:]]
    write_rows(rows, paired / "data/pairs", PAIR)
    write_manifest(paired / "data/pairs", Manifest(len(rows), {}, {}, {}))
    assemble.main()
    assert json.loads((paired / "metrics/assemble.json").read_text())["rare_tasks"] == {"geometry/mirror": 2}
    train = read_table(paired / "data/analogies/train", TRAIN_PAIR).to_pylist()
    assert train and "geometry/mirror" not in {row["task"] for row in train}


def test_without_pairs_to_train_on_it_says_where_to_look(paired):
    write_rows([], paired / "data/pairs", PAIR)
    write_manifest(paired / "data/pairs", Manifest(0, {}, {}, {}))
    with pytest.raises(SystemExit, match=r"no pair is left to train on, of 0; see metrics/filter.json"):
        assemble.main()
