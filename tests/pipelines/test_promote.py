"""The promote stage on a real registry: refuse, promote, repeat, roll back, repair."""
# ruff: noqa: F811  fixtures are imported, and then named as arguments

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from lorweb.serving.artifacts import Submission
from lorweb.serving.history import History
from lorweb.serving.registry import Registry, Why
from pipelines import evaluate, promote
from pipelines._rows import in_process
from tests.model_tiny import save_model
from tests.pipelines.contest import evaluated, parts, perfect, project, run  # noqa: F401  fixtures
from tests.pipelines.evaluated import TASKS, read_json

pytestmark = pytest.mark.slow


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


def test_a_champion_whose_files_are_damaged_gives_way_to_the_same_bytes(project, parts):
    registry = Registry("lorweb", create=True)
    registry.promote(registry.submit(Submission(save_model(parts, project / "older", seed=9), {}, {})))
    perfect()
    run()
    registry.promote(registry.by_number(2), Why("me", "as a start"))
    (registry.folder(registry.by_number(2)) / "basis.safetensors").write_bytes(b"other")
    repaired = run()  # a comparison with itself has no margin and would be refused
    assert (repaired["decision"], repaired["version"], repaired["champion"]) == ("promoted", 3, 3)
    assert repaired["reasons"] == [
        "the champion, version 2, has the same bytes, and its files are gone or damaged; these take their place"
    ]
    assert repaired["compared"] is None and registry.folder(registry.by_alias("champion")).is_dir()
    again = run()
    assert again["decision"] == "unchanged" and again["reasons"][1:] == repaired["reasons"]
    assert repaired["previous"] == 1, "a rollback leads to other bytes, not to the damaged ones"
    assert registry.rollback()[0].number == 1


def test_the_same_bytes_under_another_number_are_no_other_candidate(project):
    perfect()
    run()
    registry = Registry("lorweb")
    weights = registry.folder(registry.by_number(1)) / "basis.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"other")
    assert run()["champion"] == 2
    weights.write_bytes(kept)  # from a copy: now both are whole, and the older one is found
    again = run()
    assert (again["decision"], again["version"], again["champion"]) == ("unchanged", 1, 2)
    assert again["reasons"][0].startswith("version 2 is the champion already; the candidate has the same bytes")


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


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        ({"num_inference_steps": 3}, "num_inference_steps 2 there, 3 now"),
        ({"pool": {"actors": 1, "cpus": 1, "gpus": 1, "batch_size": 4}}, "device cpu there, cuda now"),
    ],
)
def test_reports_of_other_settings_are_refused(project, change, odd):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["evaluate"] |= change
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit, match=rf"measured otherwise .* \({odd}\); run `dvc repro"):
        promote.main(in_process)


def test_answers_of_other_weights_than_the_reports_are_refused(project):
    """As after a checkout of the reports alone."""
    path = Path("data/evaluation/_manifest.json")
    manifest = read_json(path)
    for other in ({"inputs": manifest["inputs"] | {"candidate": "0" * 64}}, {"params": {}}):
        path.write_text(json.dumps(manifest | other))
        with pytest.raises(SystemExit, match=r"data/evaluation holds answers of other weights .* `dvc checkout`"):
            promote.main(in_process)
    path.write_text(json.dumps(manifest))
    assert run()["decision"] == "refused"


def test_reports_that_a_killed_stage_left_half_are_refused(project, parts, monkeypatch):
    save_model(parts, project / "models" / "candidate", seed=8)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_reports", lambda *_: sys.exit("dead"))
        with pytest.raises(SystemExit, match="dead"):
            evaluate.main(in_process)
    assert "lorweb" in Path("reports/metrics.json").read_text()
    with pytest.raises(SystemExit, match=r"no reports/paired\.json; run `dvc repro evaluate` first"):
        promote.main(in_process)
