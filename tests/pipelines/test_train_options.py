"""The worker of the train stage under options that are off by default, without Ray."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lorweb.basis.checkpoint import load
from lorweb.config import load_params
from lorweb.kontext.load import load_base
from lorweb.training.state import checkpoint_path
from lorweb.training.variants import basis_variant
from pipelines._mlflow_run import StageFacts, mlflow_run
from pipelines._train_plan import WEIGHTS, variant_folder
from pipelines._train_worker import train_one
from pipelines.train import make_plan
from tests.pipelines.train_project import make_project
from tests.training.round_trip import optimizer_section

pytestmark = pytest.mark.slow


def trained(root, monkeypatch, **changes):
    """The plan of a project after `train_one` of the basis."""
    make_project(root, **changes)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(root)
    plan = make_plan(load_params())
    with mlflow_run(StageFacts("train", plan.section, [])) as run:
        plan = replace(plan, run_id=run.run_id)
        history = train_one(plan, "lorweb")
    return plan, history


def test_the_average_is_what_is_published(tmp_path, monkeypatch):
    options = {"ema": 0.9, "accumulate": 2, "gradient_checkpointing": True, "optimizer": optimizer_section("adamw")}
    plan, history = trained(tmp_path, monkeypatch, steps=6, checkpoint_every=3, validate_every=3, **options)
    assert history.step == 6
    folder = variant_folder(plan, "lorweb")
    stored = load_file(checkpoint_path(folder, 6) / "tensors.safetensors")
    transformer = load_base(plan.base, torch.float32, "cpu").transformer
    load(transformer, folder / WEIGHTS / "basis.safetensors")
    published = basis_variant(transformer).parameters
    assert len(published) > 20
    for name, value in published.items():
        assert torch.equal(value, stored[f"ema/{name}"]) and not torch.equal(value, stored[f"model/{name}"])
    with safe_open(folder / WEIGHTS / "basis.safetensors", "pt") as file:
        assert "0.9" in str(file.metadata())


def test_a_missing_package_stops_the_stage_before_anything_is_loaded(tmp_path, monkeypatch):
    make_project(tmp_path, optimizer=optimizer_section("prodigy"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lorweb.training.packages.find_spec", lambda _: None)
    monkeypatch.setattr("pipelines.train.resolve", lambda _: pytest.fail("looked for the base first"))
    with pytest.raises(ValueError, match=r"pip install 'prodigyopt>=1\.1'"):
        make_plan(load_params())


def test_work_goes_on_under_other_micro_batches_and_compilers_but_no_other_average(tmp_path, monkeypatch):
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    params = load_params()
    work = make_plan(params).work

    def of(**changes):
        return make_plan(params.model_copy(update={"train": params.train.model_copy(update=changes)})).work

    assert of(accumulate=2, compile=True) == work and of(ema=0.9) != work
