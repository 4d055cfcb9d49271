"""All baselines in the comparison: drawn from their own weights, with the differences that name them."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from lorweb.basis import BasisConfig
from lorweb.config import load_params
from lorweb.data.shards import read_table
from lorweb.evaluation.models import BASELINES, MODELS
from lorweb.evaluation.workers import ANSWER
from lorweb.kontext.load import load_base
from lorweb.sizes import query_width
from lorweb.training.baseline import new_variant
from pipelines import evaluate
from pipelines._answers import make_plan
from pipelines._rows import in_process
from tests.pipelines.evaluated import make_project, read_json

pytestmark = pytest.mark.slow

ASKED = ("lorweb", *BASELINES, *(f"{name}_shuffled" for name in BASELINES), "base")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(root)
    try:
        make_project(root, ASKED)
        for name in ("single_lora_equal", "basis_constant"):
            save_baseline(root, name)
        evaluate.main(in_process)
    finally:
        os.chdir(before)
    return root


def save_baseline(root: Path, name: str) -> None:
    """One with random weights, of the parameters' own basis."""
    encode, basis = load_params().encode, load_params().train.basis
    width = query_width(encode.encoder, encode.query_mode)
    config = BasisConfig(
        **basis.model_dump(exclude={"internal"}), query_dim=width, query_mode=encode.query_mode
    ).model_copy(update={"n_loras": 3, "rank": 2})
    variant = new_variant(name, load_base(encode.base, torch.float32, "cpu").transformer, config, 0)
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in variant.parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    folder = root / "models" / "baselines" / name
    folder.mkdir(parents=True)
    variant.save(folder, {"steps": "0"})


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    monkeypatch.chdir(project)


def test_each_draws_its_own_and_only_the_basis_depends_on_the_query():
    rows = {(row["model"], row["analogy"]): row for row in read_table(Path("data/evaluation"), ANSWER).to_pylist()}
    analogies = sorted({analogy for _, analogy in rows})
    assert len(analogies) == 10 and len(rows) == 10 * len(ASKED)
    assert len({rows[model, analogies[0]]["image"] for model in ASKED}) == len(ASKED), "two models drew the same image"
    mixes = {model: [rows[model, analogy]["mix"] for analogy in analogies] for model in ASKED}
    assert len(set(mixes["lorweb"])) > 1 and len(set(mixes["basis_constant"])) == 1
    assert load(mixes["basis_constant"][0])["mix"].shape[1] == 3
    assert mixes["basis_constant"] == mixes["basis_constant_shuffled"]
    assert all(mix is None for name in ("single_lora", "single_lora_equal", "base") for mix in mixes[name])


def test_report_and_differences_name_them():
    paired = read_json("reports/paired.json")["paired"]
    for name in ("single_lora_equal", "basis_constant"):
        assert (
            "seen" in paired[f"lorweb minus {name}"]
            and "unseen" in paired[f"exemplar gap of {name} (shuffled minus true)"]
        )
    page = Path("reports/index.html").read_text()
    for words in ("basis without a router", "single LoRA, as many parameters", "lorweb minus basis_constant"):
        assert words in page
    assert set(read_json("reports/metrics.json")["seen"]) == set(ASKED)
    assert set(read_json("reports/paired.json")["weights"]) == {"candidate", *BASELINES}


def test_parameters_know_every_model_and_no_other():
    from typing import get_args

    from lorweb.config import Train
    from lorweb.evaluation.entries import ModelName

    assert set(get_args(ModelName)) == set(MODELS)
    names = Train.model_fields["baselines"].annotation
    assert set(get_args(get_args(names)[0])) == set(BASELINES)


def test_a_baseline_that_was_not_trained_is_named(monkeypatch):
    params = load_params()
    weights = Path("models/baselines/basis_constant/basis.safetensors")
    aside = weights.rename(weights.with_suffix(".aside"))
    try:
        with pytest.raises(FileNotFoundError, match=r"run the train stage with basis_constant in train.baselines, or"):
            make_plan(params.evaluate, params.seed, params.encode.base, params.encode.quadrant)
    finally:
        aside.rename(weights)
