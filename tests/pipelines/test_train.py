"""The train stage without Ray: what its workers and its driver do."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorweb.config import load_params
from lorweb.kontext.metadata import read_metadata
from lorweb.training.baseline import load_variant
from pipelines._mlflow_run import StageFacts, content_hash, flatten, mlflow_run
from pipelines._stage import StageFailed
from pipelines._train_log import CurveLog
from pipelines._train_publish import finished_histories, publish, record, summary, write_curves
from pipelines._train_worker import train_one
from pipelines.train import BASELINES, CANDIDATE, make_plan
from tests.pipelines.train_project import make_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(made, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(made)
    return made


@pytest.fixture(scope="module")
def trained(made):
    """Both variants trained in this process, logged and published."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(made)
        plan = make_plan(load_params())
        with mlflow_run(StageFacts("train", plan.section, [Path("data/encoded")])) as run:
            plan = replace(plan, run_id=run.run_id)
            for name in plan.variants:
                train_one(plan, name)
            histories = finished_histories(plan)
            record(run, plan, histories)
            publish(plan, histories, CANDIDATE, BASELINES)
            run.outputs([CANDIDATE, BASELINES])
            write_curves(histories)
        return plan, histories, run


def test_the_candidate_and_the_baseline_load_into_a_fresh_base(project, trained):
    plan, _, _ = trained
    from lorweb.kontext.load import load_base

    sizes = {}
    for folder in (CANDIDATE, BASELINES / "single_lora"):
        variant = load_variant(load_base(plan.base, __import__("torch").float32, "cpu").transformer, folder)
        sizes[variant.name] = sum(p.numel() for p in variant.adapters.values())
        assert any(
            p.abs().max() > 0 for name, p in variant.adapters.items() if name.endswith(("B", "lora_B.default.weight"))
        )
    assert sizes["lorweb"] == sizes["single_lora"]


def test_metadata_say_what_the_model_needs_and_hold_nothing_that_changes_between_runs(project, trained):
    plan, histories, run = trained
    found = read_metadata(CANDIDATE)
    assert (found.base, found.encoder, found.quadrant, found.num_inference_steps) == (plan.base, "made", 32, 2)
    assert found.extra["steps"] == 10 and found.extra["validation"]["seen"] == histories["lorweb"].last("seen")
    assert read_metadata(BASELINES / "single_lora").extra["rank"] == 8 and found.extra["rank"] == 2
    assert run.run_id not in (CANDIDATE / "metadata.json").read_text()


def test_publishing_again_gives_the_same_bytes(project, trained):
    plan, _, _ = trained
    before = content_hash(CANDIDATE), content_hash(BASELINES)
    for name in plan.variants:
        train_one(plan, name)  # finds its last checkpoint and only writes the weights again
    publish(plan, finished_histories(plan), CANDIDATE, BASELINES)
    assert (content_hash(CANDIDATE), content_hash(BASELINES)) == before


def test_every_step_is_in_mlflow_exactly_once_however_often_it_is_sent(project, trained):
    _, histories, run = trained
    for name, history in histories.items():
        CurveLog(run.client, run.run_id, name).send(history)
        logged = run.client.get_metric_history(run.run_id, f"{name}/loss")
        assert [(m.step, m.value) for m in sorted(logged, key=lambda m: m.step)] == list(
            enumerate(history.curves["loss"], 1)
        )
        unseen = run.client.get_metric_history(run.run_id, f"{name}/validation/unseen")
        assert sorted(m.step for m in unseen) == [0, 5, 10]


def test_sheets_weights_parameters_and_lineage_are_in_the_run(project, trained):
    plan, _, run = trained
    paths = [
        f.path
        for name in plan.variants
        for part in ("weights", "health")
        for f in run.client.list_artifacts(run.run_id, f"{name}/{part}")
    ]
    shown = [Path(f.path).name.split("+") for f in run.client.list_artifacts(run.run_id, "images")]
    pictures = sorted((key, int(step)) for key, _, step, *_ in shown)
    assert pictures == sorted(2 * [(f"{name}~sheet", step) for name in plan.variants for step in (5, 10)])
    assert {f"lorweb/health/health.{kind}" for kind in ("json", "png")} == {p for p in paths if "/health/" in p}
    assert "lorweb/weights/basis.safetensors" in paths and "single_lora/weights/adapter.safetensors" in paths
    data = run.client.get_run(run.run_id).data
    assert data.params["optimizer.learning_rate"] == "0.01" and data.params["steps"] == "10"
    assert data.tags["in.data/encoded"] == content_hash(Path("data/encoded"))
    assert data.tags["out.models/candidate"] == content_hash(CANDIDATE)


def test_a_sheet_has_a_row_for_each_analogy_and_five_columns(project, trained):
    from PIL import Image

    plan, _, _ = trained
    with Image.open(Path(plan.work) / "lorweb" / "sheets" / "step-00000010.png") as sheet:
        assert sheet.size == (5 * 32, 2 * 32 + 14)


def test_the_curves_are_complete(project, trained):
    _, histories, _ = trained
    with Path("metrics/train_loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], int(row["step"])) for row in rows] == [
        (v, s) for v in ("lorweb", "single_lora") for s in range(1, 11)
    ]
    assert float(rows[3]["loss"]) == pytest.approx(histories["lorweb"].curves["loss"][3], rel=1e-5)
    with Path("metrics/train_validation.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 3 * 4


def test_the_summary_names_the_newest_losses(project, trained):
    plan, histories, _ = trained
    found = summary(plan, histories)
    assert found["lorweb"]["loss"] == histories["lorweb"].curves["loss"][-1]  # a tenth of ten steps
    assert found["single_lora"]["validation_unseen"] == histories["single_lora"].last("unseen")
    assert "mix_spread" in found["lorweb"] and "mix_spread" not in found["single_lora"]


def test_an_earlier_run_goes_on_and_an_unknown_one_is_replaced(project, trained):
    _, _, run = trained
    facts = StageFacts("train", {}, [])
    with mlflow_run(facts, resume=run.run_id) as again:
        assert again.run_id == run.run_id
        assert run.client.get_run(run.run_id).info.status == "RUNNING"
    with mlflow_run(facts, resume="0" * 32) as other:
        assert other.run_id != run.run_id
    assert run.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_failed_stage_leaves_a_failed_run(project, trained):
    _, _, run = trained
    with pytest.raises(RuntimeError), mlflow_run(StageFacts("train", {}, [])) as failing:
        raise RuntimeError
    assert run.client.get_run(failing.run_id).info.status == "FAILED"


def changed(params, **train):
    return params.model_copy(update={"train": params.train.model_copy(update=train)})


def test_the_work_folder_follows_the_parameters_that_change_the_weights_and_no_others(project):
    params = load_params()
    work = make_plan(params).work
    assert make_plan(changed(params, workers=2, sheet_rows=3, keep_checkpoints=5)).work == work
    assert make_plan(changed(params, steps=11)).work != work
    assert make_plan(params.model_copy(update={"seed": 1})).work != work


def test_other_data_have_another_work_folder(project):
    work = make_plan(load_params()).work
    manifest = Path("data/encoded/_manifest.json")
    before = manifest.read_text()
    facts = json.loads(before)
    facts["files"]["part-00000.parquet"] = "0" * 64
    try:
        manifest.write_text(json.dumps(facts))
        assert make_plan(load_params()).work != work
    finally:
        manifest.write_text(before)


def test_data_of_another_base_are_refused(project):
    manifest = Path("data/encoded/_manifest.json")
    before = manifest.read_text()
    facts = json.loads(before)
    facts["params"]["base_revision"] = "f" * 16
    try:
        manifest.write_text(json.dumps(facts))
        with pytest.raises(StageFailed, match="made with base revision ffffffffffffffff"):
            make_plan(load_params())
    finally:
        manifest.write_text(before)


def test_parameters_become_flat_names():
    assert flatten({"a": {"b": [1, 2], "c": "x"}, "d": None}) == {"a.b": "[1, 2]", "a.c": '"x"', "d": "null"}
