"""Versions by content, aliases that survive a killed process, rollback, resolving: on a real SQLite registry."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorweb.serving import registry as registry_module
from lorweb.serving.artifacts import Submission, content_hash, resolve
from lorweb.serving.registry import ROLLED_BACK, Registry, Why


def candidate(root: Path, text: str) -> Submission:
    """A folder with the files of a model; the registry never looks inside them."""
    folder = root / f"candidate-{text}"
    folder.mkdir(exist_ok=True)
    (folder / "basis.safetensors").write_bytes(text.encode())
    (folder / "metadata.json").write_text(json.dumps({"base": "tiny", "text": text}))
    return Submission(folder, {"seen/lorweb/perceptual_to_truth": 0.1}, {"git_commit": "abc"})


@pytest.mark.slow
def test_the_same_bytes_are_one_version_and_other_bytes_another(root):
    registry = Registry("lorweb", root)
    first = registry.submit(candidate(root, "one"))
    assert registry.submit(candidate(root, "one")).number == first.number == 1
    second = registry.submit(candidate(root, "two"))
    assert second.number == 2 and second.aliases == ("candidate",)
    assert first.content == content_hash(root / "candidate-one") != second.content
    assert [v.aliases for v in registry.versions()] == [(), ("candidate",)]
    assert second.tags["git_commit"] == "abc"


@pytest.mark.slow
def test_the_second_of_two_who_register_the_same_bytes_at_once_leaves_nothing_behind(root, monkeypatch):
    registry, one, first = Registry("lorweb", root), candidate(root, "one"), []
    make_version = registry_module.make_version

    def overtaken(*given):
        monkeypatch.setattr(registry_module, "make_version", make_version)
        first.append(Registry("lorweb", root).submit(one))
        return make_version(*given)

    monkeypatch.setattr(registry_module, "make_version", overtaken)
    assert registry.submit(one) == first[0] and [version.number for version in registry.versions()] == [1]
    assert (registry.folder(first[0]) / "basis.safetensors").read_bytes() == b"one"
    assert len(list((root / "mlartifacts").rglob("basis.safetensors"))) == 1
    assert [run.info.run_id for run in registry.client.search_runs(["1"])] == [first[0].run_id]
    assert len(registry.client.search_logged_models(["1"])) == 1


def test_the_run_of_a_version_holds_its_metrics_and_no_pickle(root):
    registry = Registry("lorweb", root)
    version = registry.submit(candidate(root, "one"))
    run = registry.client.get_run(version.run_id)
    assert run.data.metrics == {"seen/lorweb/perceptual_to_truth": 0.1}
    files = [path.name for path in (root / "mlartifacts").rglob("*") if path.is_file()]
    assert "basis.safetensors" in files and "served.py" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]


@pytest.mark.slow
def test_promotion_moves_previous_along_and_repeating_it_changes_nothing(root):
    registry = Registry("lorweb", root)
    one, two = (registry.submit(candidate(root, text)) for text in ("one", "two"))
    registry.promote(one)
    assert registry.by_alias("previous") is None
    registry.promote(two)
    registry.promote(two)
    assert (registry.by_alias("champion").number, registry.by_alias("previous").number) == (2, 1)


@pytest.mark.slow
def test_rollback_swaps_and_marks_and_a_promotion_by_hand_unmarks(root):
    registry = Registry("lorweb", root)
    one, two = (registry.submit(candidate(root, text)) for text in ("one", "two"))
    registry.promote(one)
    with pytest.raises(ValueError, match="no previous champion to roll back to"):
        registry.rollback()
    registry.promote(two)
    champion, moved = registry.rollback()
    assert (champion.number, moved) == (1, True) and ROLLED_BACK in registry.by_number(2).tags
    with pytest.raises(
        ValueError, match=r"version 2 of lorweb was rolled back already, and version 1 is the champion; "
    ):
        registry.rollback()
    assert (registry.by_alias("champion").number, registry.by_alias("previous").number) == (1, 2)
    registry.promote(registry.by_number(2))
    assert ROLLED_BACK not in registry.by_number(2).tags
    assert (registry.by_alias("champion").number, registry.by_alias("previous").number) == (2, 1)


def test_an_alias_resolves_to_a_folder_with_the_model(root):
    registry = Registry("lorweb", root)
    registry.promote(registry.submit(candidate(root, "one")))
    folder = resolve("models:/lorweb@champion", root)
    assert (folder / "basis.safetensors").read_bytes() == b"one"
    assert json.loads((folder / "metadata.json").read_text())["text"] == "one"


def test_what_is_not_there_is_said_in_one_sentence(root, tmp_path):
    with pytest.raises(ValueError, match=r"models:/lorweb@champion cannot be had .* run `make run` first"):
        resolve("models:/lorweb@champion", root)
    with pytest.raises(ValueError, match=r"there is no model registry at .*mlflow.db; run from .* give --model PATH"):
        resolve("models:/lorweb@champion", tmp_path)
    assert not list(tmp_path.iterdir()), "looking must not make a database"
    with pytest.raises(ValueError, match="has no version 7; there are none yet"):
        Registry("lorweb", root).by_number(7)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no basis.safetensors; run the train stage"):
        Registry("lorweb", root).submit(Submission(tmp_path / "empty", {}, {}))


def test_without_a_champion_the_candidate_is_named_with_the_way_to_use_it(root):
    registry = Registry("lorweb", root)
    registry.tag(registry.submit(candidate(root, "one")), "decision", "refused")
    with pytest.raises(
        ValueError, match=r"champion cannot be had .*The candidate is version 1, which was refused: "
    ) as e:
        resolve("models:/lorweb@champion", root)
    assert "`--model models:/lorweb@candidate` takes it" in str(e.value) and "make run" not in str(e.value)
    assert "lorweb registry promote 1 --reason TEXT" in str(e.value)


def test_a_dead_server_is_a_sentence_and_not_minutes_of_retries(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9 does not answer .* start it"):
        Registry("lorweb", root)


@pytest.mark.slow
def test_evidence_comes_back_as_it_was_recorded(root):
    registry = Registry("lorweb", root)
    version = registry.submit(candidate(root, "one"))
    assert registry.evidence(version) is None
    facts = {"cells": {"seen": {}}, "tasks": {}}
    run = registry.record(version, "promote: promoted", {"evidence.json": facts}, {"decision": "promoted"})
    registry.promote(version, Why("me", "it is good", run))
    assert registry.evidence(registry.by_number(1)) == facts
    assert registry.events()[0] | {"at": ""} == {
        "at": "", "what": "promote", "from": None, "to": 1, "by": "me", "why": "it is good", "run": run
    }  # fmt: skip


@pytest.mark.slow
def test_the_run_of_a_candidate_has_what_mlflow_shows(root):
    report = root / "index.html"
    report.write_text("<p>numbers</p>")
    made = candidate(root, "one")
    whole = replace(
        made,
        params={f"p{number}": "1" for number in range(230)},
        files={"report/index.html": report},
        description="| cell | value |",
        evaluation_set="ab" * 32,
    )
    registry = Registry("lorweb", root)
    version = registry.submit(whole)
    assert version.description == "| cell | value |"
    run = registry.client.get_run(version.run_id)
    assert len(run.data.params) == 230 + 1, "more than one request takes, and the hash of the files"
    assert run.data.params["content_sha256"] == version.content
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("test analogies", "ab" * 18)
    (logged,) = registry.client.search_logged_models([run.info.experiment_id])
    assert [(m.key, m.value, m.dataset_name) for m in logged.metrics] == [
        ("seen/lorweb/perceptual_to_truth", 0.1, "test analogies")
    ]
    assert (root / "mlartifacts" / version.run_id / "artifacts/report/index.html").read_text() == "<p>numbers</p>"
    assert registry.submit(whole).number == 1
