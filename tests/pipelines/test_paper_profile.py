"""The eight stages on the paper's profile with tiny models in the place of the true ones, and nothing switched off."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lorweb.config import load_params
from lorweb.data.shards import read_table
from lorweb.kontext.metadata import read_metadata
from lorweb.records import PAIR
from tests.cluster.whole import PATIENCE, STAGES, call, ran
from tests.pipelines.paper_project import (
    NO_GPU,
    PATHS,
    QUANT,
    SIZES,
    clone_tiny,
    leaves,
    profile_tree,
    run_module,
    write_tiny,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]
VARIANTS = ("paper-48gb", "paper-24gb")
MACHINE = ("actors", "gpus", "gpus_per_worker")


def test_nothing_but_paths_sizes_and_the_machine_is_replaced(tmp_path):
    """And every replacement replaces something, so that the list does not outlive its reasons."""
    assert not (PATHS.keys() & SIZES.keys()) and all(key.split(".")[-1] in MACHINE for key in NO_GPU)
    for name in ("paper", *VARIANTS):
        write_tiny(name, tmp_path)
        true, tiny = (
            dict(leaves(profile_tree(name))),
            dict(leaves(yaml.safe_load((tmp_path / "params.yaml").read_text()))),
        )
        replaced = {key for key in true.keys() | tiny.keys() if true.get(key) != tiny.get(key)}
        ready = {key for key, value in NO_GPU.items() if true[key] == value}
        assert replaced == {*PATHS, *SIZES, *NO_GPU} - ready and (name != "paper" or not ready)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone in which `dvc repro` has run all stages, from the start to the end."""
    folder = tmp_path_factory.mktemp("paper") / "project"
    clone_tiny(folder)
    assert ran(call(folder, "dvc", "repro", PYTHONPATH=str(QUANT), RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2")) == STAGES
    return folder


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_editor_of_the_profile_left_pairs(project):
    rows = read_table(project / "data/pairs", PAIR).to_pylist()
    assert {row["editor"] for row in rows} == {"embedded", "kontext"}
    scores = json.loads(rows[0]["scores"])
    assert {"clip_direction", "dino_similarity"} & set(scores) and len(rows) > 50, sorted(scores)


def test_it_trains_as_the_paper_does(project):
    extra = read_metadata(project / "models/candidate").extra
    assert (extra["steps"], extra["rank"], extra["variant"]) == (4, 4, "lorweb")
    assert set(extra["validation"]) == {
        f"{split}{what}" for split in ("seen", "unseen") for what in ("", "_shuffled", "_identity", "_no_prompt")
    }
    (state,) = (project / ".work/train").glob("*/lorweb/step-00000004/tensors.safetensors")
    tensors = load_file(state)
    assert tensors["model/router.keys"].shape[1:] == (32, 128)
    codes = [key for key, value in tensors.items() if value.dtype == torch.uint8]
    assert "optimizer/router.keys/exp_avg:codes" in codes, "moments are not of 8 bits"


@pytest.mark.parametrize(("name", "tolerance"), [("paper-48gb", 1e-3), ("paper-24gb", 0.02)])
def test_a_variant_is_the_same_training_but_for_rounding(project, tmp_path, name, tolerance):
    folder = tmp_path / name
    shutil.copytree(
        project, folder, ignore=shutil.ignore_patterns(".work", ".dvc", ".git", "models", "mlflow.db", "mlartifacts")
    )
    write_tiny(name, folder)
    run_module("tests.pipelines.paper_project", folder)
    ours, theirs = (read_json(root / "metrics/train.json") for root in (folder, project))
    for variant in ("lorweb", "single_lora"):
        losses = [key for key in theirs[variant] if key.startswith("validation") or key == "loss"]
        assert len(losses) == 9
        assert {key: ours[variant][key] for key in losses} == pytest.approx(
            {key: theirs[variant][key] for key in losses}, rel=tolerance
        )
    weights = [(root / "models/candidate/basis.safetensors").read_bytes() for root in (folder, project)]
    assert weights[0] != weights[1], "another number of micro-batches left the same bits: was it used?"


def test_it_is_evaluated_and_judged(project):
    decision = read_json(project / "models/promoted.json")
    assert decision["decision"] in ("promoted", "refused") and decision["reasons"]
    measured = read_json(project / "reports/metrics.json")["seen"]
    assert set(measured) == set(load_params(project / "params.yaml").evaluate.models)
