"""What the promote stage compares a candidate with: the champion's own numbers, or those that it measures again."""
# ruff: noqa: F811  fixtures are imported, and then named as arguments

import json
import time
from pathlib import Path
from threading import Event, Thread

import pytest

from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import Registry, Why
from lorweb.storage.locks import lock_of, locked
from pipelines import evaluate
from pipelines._rows import Runner, in_process
from tests.model_tiny import save_model
from tests.pipelines.contest import MODELS, evaluated, parts, perfect, project, run  # noqa: F401  fixtures
from tests.pipelines.evaluated import write_params

pytestmark = pytest.mark.slow


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
