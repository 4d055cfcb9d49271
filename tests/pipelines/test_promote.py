"""The promote stage on a real registry: refuse, promote, repeat, roll back, and compare with a champion."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorweb.serving.registry import Registry
from pipelines import evaluate, promote
from pipelines._rows import Runner, in_process
from tests.model_tiny import save_model
from tests.pipelines.evaluated import make_project, read_json, write_params

pytestmark = pytest.mark.slow
MODELS = ("lorweb", "lorweb_shuffled", "base", "copy")


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An evaluated project with an empty registry, as the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="lorweb-promote-", dir=shared if shared.is_dir() else None))
    monkeypatch.chdir(root)
    make_project(root, MODELS)
    evaluate.main(in_process)
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


def test_the_life_of_a_candidate(project, capsys, monkeypatch):
    refused = run()
    assert refused["decision"] == "refused" and refused["champion"] is None and refused["version"] == 1
    assert "exemplar gap" in " ".join(refused["reasons"])
    assert "REFUSED" in capsys.readouterr().out
    runs = len(Registry("lorweb").client.search_runs(["1"]))
    assert run() == refused and len(Registry("lorweb").client.search_runs(["1"])) == runs, (
        "a second run records nothing"
    )

    perfect()
    promoted = run()
    assert promoted["decision"] == "promoted" and promoted["champion"] == promoted["version"] == 1
    assert set(promoted["lineage"]) >= {"lineage_key", "git_commit", "params_sha256", "base_revision", "mlflow_run_id"}
    assert len(promoted["evaluation_set_sha256"]) == 64
    again = run()
    assert again["decision"] == "unchanged" and [v.number for v in Registry("lorweb").versions()] == [1]

    other = save_model(project / "parts", project / "models" / "candidate", seed=8)
    with pytest.raises(SystemExit, match="reports/ was made with other weights than models/candidate"):
        promote.main(in_process)
    evaluate.main(in_process)
    second = run()
    assert second["decision"] == "refused" and second["version"] == 2 and second["champion"] == 1
    assert any("of the champion 0.0500" in reason for reason in second["reasons"])
    assert other.is_dir()

    registry = Registry("lorweb")
    registry.promote(registry.by_number(2))
    registry.rollback()
    rolled = run()
    assert rolled["decision"] == "refused" and "rolled back by hand" in rolled["reasons"][0]


def test_a_champion_that_was_measured_otherwise_is_measured_again(project, monkeypatch):
    perfect()
    assert run()["decision"] == "promoted"
    save_model(project / "parts", project / "models" / "candidate", seed=8)
    write_params(project, project / "parts", MODELS)
    text = (project / "params.yaml").read_text().replace("num_inference_steps: 2", "num_inference_steps: 3")
    (project / "params.yaml").write_text(text)
    evaluate.main(in_process)
    drawn = []
    real = Runner.__init__
    monkeypatch.setattr(
        Runner, "__init__", lambda self, job, *rest: (drawn.append(job.stage), real(self, job, *rest))[1]
    )
    reasons = " ".join(run()["reasons"])
    assert "promote" in drawn, "the champion was not measured on the new settings"
    assert "of the champion 0.0500" not in reasons
