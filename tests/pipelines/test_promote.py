"""The promote stage on a real registry: refuse, promote, repeat, roll back, and compare with a champion."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from lorweb.serving.artifacts import Submission
from lorweb.serving.history import History
from lorweb.serving.registry import Registry, Why
from lorweb.storage.locks import lock_of, locked
from pipelines import evaluate, promote
from pipelines._rows import Runner, in_process
from tests.model_tiny import save_model
from tests.pipelines.evaluated import TASKS, make_project, read_json, write_params

pytestmark = pytest.mark.slow
MODELS = ("lorweb", "lorweb_shuffled", "base", "copy")


def scratch() -> Path:
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="lorweb-promote-", dir=shared if shared.is_dir() else None))


@pytest.fixture(scope="module")
def evaluated() -> Iterator[Path]:
    """An evaluated project, made once."""
    root = scratch()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        make_project(root, MODELS)
        evaluate.main(in_process)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def parts(evaluated: Path) -> Path:
    return evaluated / "parts"


@pytest.fixture
def project(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it with an empty registry, as the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = scratch()
    shutil.copytree(evaluated, root, dirs_exist_ok=True)
    monkeypatch.chdir(root)
    yield root
    os.chdir("/")
    shutil.rmtree(root, ignore_errors=True)


def run() -> dict:
    promote.main(in_process)
    return read_json("models/promoted.json")


def perfect() -> None:
    """Overwrite the measured means, as if the candidate had drawn better; the gate is tested on its own."""
    metrics = read_json("reports/metrics.json")
    for models in metrics.values():
        for model, value in (("lorweb", 0.05), ("lorweb_shuffled", 0.5), ("base", 0.5), ("copy", 0.5)):
            models[model]["mse_to_truth"] |= {"mean": value, "low": value, "high": value}
    Path("reports/metrics.json").write_text(json.dumps(metrics))


def test_the_life_of_a_candidate(project, parts, capsys, monkeypatch):
    refused = run()
    assert refused["decision"] == "refused" and refused["champion"] is None and refused["version"] == 1
    assert "exemplar gap" in " ".join(refused["reasons"])
    assert "REFUSED" in capsys.readouterr().out
    runs = len(Registry("lorweb").client.search_runs(["1"]))
    assert run() == refused and len(Registry("lorweb").client.search_runs(["1"])) == runs, (
        "a second run records nothing"
    )

    perfect()
    shutil.rmtree(Registry("lorweb").folder(Registry("lorweb").by_number(1)))
    promoted = run()
    assert promoted["decision"] == "promoted" and promoted["champion"] == promoted["version"] == 2
    assert promoted["lineage"]["content_sha256"] == refused["lineage"]["content_sha256"]
    assert Registry("lorweb").folder(Registry("lorweb").by_alias("champion")).is_dir()
    assert promoted["compared"]["with"] == "base model" and len(promoted["checks"]) == 6
    assert all(check["passed"] and check["value"] >= check["needed"] for check in promoted["checks"])
    assert set(promoted["lineage"]) >= {"lineage_key", "git_commit", "params_sha256", "base_revision", "mlflow_run_id"}
    assert len(promoted["evaluation_set_sha256"]) == 64
    again = run()
    assert again["decision"] == "unchanged" and [v.number for v in Registry("lorweb").versions()] == [1, 2]

    other = save_model(parts, project / "models" / "candidate", seed=8)
    with pytest.raises(SystemExit, match="reports/ was made with other weights than models/candidate"):
        promote.main(in_process)
    evaluate.main(in_process)
    second = run()
    assert second["decision"] == "refused" and second["version"] == 3 and second["champion"] == 2
    assert any("of the champion 0.0500" in reason for reason in second["reasons"])
    assert second["compared"]["how"].startswith(
        f"measured on the same evaluation set, {second['evaluation_set_sha256']}"
    )
    assert other.is_dir()

    registry = Registry("lorweb")
    registry.promote(registry.by_number(3), Why("me", "it looks better"))
    assert run()["reasons"][1:] == ["moved by me: it looks better"]
    registry.rollback()
    rolled = run()
    assert rolled["decision"] == "refused" and "rolled back by hand" in rolled["reasons"][0]


def test_a_process_that_dies_round_the_move_leaves_no_promotion_that_was_not_and_the_next_one_tells_what_was(
    project, monkeypatch
):
    perfect()
    registry = Registry("lorweb", create=True)
    for place, name in ((History, "append"), (Registry, "tag")):
        real = getattr(place, name)

        def dies(self, first, *rest, place=place, real=real):
            if place is History or rest[0] == "decision":
                raise SystemExit("dead")
            return real(self, first, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(place, name, dies)
            with pytest.raises(SystemExit, match="dead"):
                promote.main(in_process)
        version = registry.by_number(1)
        assert "decision" not in version.tags and ("champion" in version.aliases) is (place is Registry)
    again = run()
    told = registry.by_number(1).tags
    assert again["decision"] == "unchanged" and told["decision"] == "promoted"
    assert told["decision_run"] == registry.moves()[-1].why.run and again["reasons"][1] in told["decision_reasons"]


def test_a_champion_that_was_measured_otherwise_is_measured_again_by_one_at_a_time(project, parts, monkeypatch, capsys):
    perfect()
    assert run()["decision"] == "promoted"
    save_model(parts, project / "models" / "candidate", seed=8)
    write_params(project, parts, MODELS)
    text = (project / "params.yaml").read_text().replace("num_inference_steps: 2", "num_inference_steps: 3")
    (project / "params.yaml").write_text(text)
    evaluate.main(in_process)
    drawn = []
    real = Runner.__init__
    monkeypatch.setattr(
        Runner, "__init__", lambda self, job, *rest: (drawn.append(job.stage), real(self, job, *rest))[1]
    )
    held, early = Event(), []

    def another() -> None:
        with locked(lock_of(Path(".work/promote"))):
            held.set()
            said, end = "", time.monotonic() + 60
            while "waiting for it" not in said and not drawn and time.monotonic() < end:
                time.sleep(0.05)
                said += capsys.readouterr().err
            early.append("waiting for it" not in said or bool(drawn))

    first = Thread(target=another)
    first.start()
    assert held.wait(30)
    reasons = " ".join(run()["reasons"])
    first.join(30)
    assert early == [False], "it did not wait for the promotion that was measuring"
    assert "promote" in drawn, "the champion was not measured on the new settings"
    assert "of the champion 0.0500" not in reasons
    assert "(they differ in num_inference_steps); the champion was measured again on the candidate's" in reasons


def test_a_candidate_carries_its_reports_parameters_and_licences(project):
    run()
    registry = Registry("lorweb")
    version = registry.by_number(1)
    assert json.loads(version.tags["licences"]) == {"CC0-1.0": 2} and "unknown; see" in version.tags["base_licence"]
    assert version.tags["lineage_key"] and "| seen | " in version.description
    kept = registry.client.get_run(version.run_id)
    assert kept.data.params["evaluate.num_inference_steps"] == "2"
    folder = Path("mlartifacts") / version.run_id / "artifacts"
    for name in ("index.html", "metrics.json", "paired.json", "judge.json", "per_task.csv", "model_card.md"):
        assert (folder / "report" / name).read_bytes() == (Path("reports") / name).read_bytes()
    assert (folder / "config/params.yaml").read_bytes() == Path("params.yaml").read_bytes()
    decision = registry.decisions.read(version.tags["decision_run"], "decision.json")
    assert decision["decision"] == version.tags["decision"] == "refused"
    assert decision["reasons"] and decision["gate"]["metric"] == "mse_to_truth" and decision["from"]["champion"] is None
    evidence = registry.evidence(version)
    assert len(evidence["answers"]) == 10 and {a["task"] for a in evidence["answers"].values()} == set(TASKS)
    assert [event["what"] for event in registry.events()] == ["refused"]


def test_the_champion_is_paired_with_analogy_by_analogy(project, parts):
    """The low end of an interval over the very answers that were measured, against a hand-made mean of them."""
    lenient = {"min_exemplar_gap": 0.0, "min_gain_over_copy": 0.0, "max_task_regression": 100.0}
    bounds = {"min_entropy": 1.0, "min_variation": 0.0, "min_update_variation": 0.0, "max_dead_atoms": 1.0}
    write_params(project, parts, MODELS, margin_at="low", health=bounds, **lenient)
    run()
    registry = Registry("lorweb")
    registry.promote(registry.by_number(1), Why("me", "as a start"))
    before = registry.evidence(registry.by_number(1))["answers"]
    save_model(parts, project / "models" / "candidate", seed=8)
    evaluate.main(in_process)
    found = run()
    after = registry.evidence(registry.by_number(2))["answers"]
    (margin,) = (c for c in found["checks"] if c["cell"] == "seen" and c["name"] == "margin, low end")
    gains = [
        before[name]["metrics"]["mse_to_truth"] - after[name]["metrics"]["mse_to_truth"]
        for name in after
        if "seen" in after[name]["cells"]
    ]
    assert len(gains) == 4 and margin["value"] < sum(gains) / len(gains), "two tasks of two analogies"
    assert "over 4 analogies" in margin["sentence"]
    health = {c["name"]: c for c in found["checks"] if c["name"] in ("entropy", "variation", "dead_atoms")}
    assert 0 < health["entropy"]["value"] < 1 and not health["entropy"]["passed"] and health["dead_atoms"]["passed"]
    assert found["decision"] == "refused"


@pytest.mark.parametrize(
    ("change", "mode", "told"),
    [
        ({"latents": "grid"}, "cat-aa'b", "latents (grid, data/encoded has quadrant)"),
        ({}, "ca'-ca", "query_mode (ca'-ca, data/encoded has cat-aa'b)"),
    ],
)
def test_a_champion_of_another_encoding_is_refused_with_both_sets(project, parts, change, mode, told):
    folder = save_model(parts, project / "other", mode=mode)
    facts = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps(facts | change))
    registry = Registry("lorweb", create=True)
    champion = registry.submit(Submission(folder, {}, {}))
    registry.record(
        champion, "judged", {"evidence.json": {"cells": {}, "tasks": {}, "protocol": {"set": "f" * 64}}}, {}
    )
    registry.promote(champion, Why("me", "as a start"))
    refused = run()
    (reason,) = refused["reasons"]
    assert refused["decision"] == "refused" and registry.by_alias("champion").number == 1
    assert f"differs in {told} and cannot be measured on this evaluation set" in reason
    sets = f"evaluation set {refused['evaluation_set_sha256']}, the champion on {'f' * 64}"
    assert sets in reason and refused["compared"]["rival_set_sha256"] == "f" * 64


def test_reports_of_other_settings_are_refused(project):
    text = (project / "params.yaml").read_text().replace("num_inference_steps: 2", "num_inference_steps: 3")
    (project / "params.yaml").write_text(text)
    with pytest.raises(
        SystemExit, match=r"measured otherwise .* \(num_inference_steps 2 there, 3 now\); run `dvc repro"
    ):
        promote.main(in_process)
