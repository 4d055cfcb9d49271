"""The train stage with every baseline, every ablation and bounds that ring: what is published, logged and said."""

import csv
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorweb.config import load_params
from lorweb.kontext.load import load_base
from lorweb.kontext.metadata import read_metadata
from lorweb.training.baseline import load_variant
from lorweb.training.loop import PARTS
from pipelines._mlflow_run import StageFacts, mlflow_run
from pipelines._train_publish import finished_histories, publish, record, summary, write_curves
from pipelines._train_worker import train_one
from pipelines.train import BASELINES, CANDIDATE, make_plan
from tests.pipelines.train_project import make_project

pytestmark = pytest.mark.slow

ALL = ("single_lora", "single_lora_equal", "basis_constant")
LOUD = {"from_step": 1, "min_entropy": 0.0, "min_variation": 1.0, "max_dead_atoms": 1.0}
CHANGES = {
    "baselines": list(ALL),
    "ablations": ["shuffled", "identity", "no_prompt"],
    "alarms": LOUD,
    "caption_dropout": 0.5,
    "steps": 4,
    "validate_every": 2,
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"), **CHANGES)


@pytest.fixture(scope="module")
def trained(made):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(made)
        plan = make_plan(load_params())
        with mlflow_run(StageFacts("train", plan.section, [Path("data/encoded")])) as run:
            plan = replace(plan, run_id=run.run_id)
            for name in plan.variants:
                with pytest.warns(UserWarning, match="train.alarms") if name == "lorweb" else nullcontext():
                    train_one(plan, name)
            histories = finished_histories(plan)
            record(run, plan, histories)
            publish(plan, histories, CANDIDATE, BASELINES)
            write_curves(histories)
        return plan, histories, run


@pytest.fixture(autouse=True)
def inside(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_every_baseline_is_published_and_loads_as_what_it_is(trained):
    plan, _, _ = trained
    assert json.loads((BASELINES / "baselines.json").read_text()) == list(ALL)
    found = summary(plan, trained[1])
    for name in ALL:
        variant = load_variant(load_base(plan.base, torch.float32, "cpu").transformer, BASELINES / name)
        assert variant.name == name and found[name]["parameters"] == variant.size
        assert read_metadata(BASELINES / name).extra["variant"] == name
    sizes = {name: found[name]["parameters"] for name in ("lorweb", *ALL)}
    assert sizes["single_lora"] < sizes["basis_constant"] < sizes["single_lora_equal"] <= sizes["lorweb"]
    assert read_metadata(BASELINES / "basis_constant").extra["rank"] == 2
    (weights,) = (BASELINES / "basis_constant").glob("*.safetensors")
    assert load_file(weights)["router.keys"].shape[1:] == (4, 1), "N numbers per layer"


def test_ranks_of_the_equal_one_are_told(trained):
    ranks = read_metadata(BASELINES / "single_lora_equal").extra["ranks"]
    assert 8 < ranks["least"] < ranks["most"]
    assert read_metadata(BASELINES / "single_lora").extra["rank"] == 8


def test_losses_without_the_exemplar_are_in_the_summary_the_table_and_mlflow(trained):
    plan, histories, run = trained
    found = summary(plan, histories)
    with Path("metrics/train_validation.csv").open() as file:
        table = {(row["variant"], row["split"], row["step"]) for row in csv.DictReader(file)}
    for name in plan.variants:
        for split in ("seen_identity", "unseen_identity"):
            assert found[name][f"validation_{split}"] == histories[name].last(split)
            logged = run.client.get_metric_history(run.run_id, f"{name}/validation/{split}")
            assert sorted(metric.step for metric in logged) == [0, 2, 4]
            assert (name, split, "4") in table
        assert found[name]["validation_seen_no_prompt"] != found[name]["validation_seen"]


def test_norms_and_health_are_curves(trained):
    _, histories, run = trained
    for part in PARTS:
        logged = run.client.get_metric_history(run.run_id, f"lorweb/{part}")
        assert [m.value for m in sorted(logged, key=lambda m: m.step)] == histories["lorweb"].curves[part]
    for number in ("entropy", "variation", "dead_atoms"):
        logged = run.client.get_metric_history(run.run_id, f"lorweb/router/{number}")
        assert sorted(metric.step for metric in logged) == [0, 2, 4]


def test_an_alarm_is_a_tag_of_the_run_and_a_sentence_of_the_summary(trained):
    plan, histories, run = trained
    tags = run.client.get_run(run.run_id).data.tags
    assert [name for name in tags if name.startswith("alarm.")] == ["alarm.lorweb.variation"]
    found = summary(plan, histories)
    assert found["lorweb"]["alarms"] == [tags["alarm.lorweb.variation"]]
    assert "after step 2, below the bound 1 (train.alarms)" in tags["alarm.lorweb.variation"]
    assert not any("alarms" in found[name] for name in ALL)


def test_bounds_of_alarms_do_not_make_another_training(trained):
    plan, histories, _ = trained
    params = load_params()
    quiet = params.model_copy(update={"train": params.train.model_copy(update={"alarms": None})})
    again = make_plan(quiet)
    assert again.work == plan.work and "alarms" not in summary(again, histories)["lorweb"]
    others = ({"stop": None, "publish": "last", "ablations": ()}, {"baselines": ()})
    works = {make_plan(params.model_copy(update={"train": params.train.model_copy(update=o)})).work for o in others}
    assert len(works | {plan.work}) == 3
