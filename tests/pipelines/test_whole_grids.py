"""Whole grids behind the encode stage: training, its resume and sheets, evaluation, and what is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lorweb.data.shards import read_table
from lorweb.evaluation.workers import ANSWER, decode_quadrant
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size, quadrant_of_latents
from lorweb.kontext.load import load_base
from lorweb.kontext.metadata import read_metadata, write_metadata
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.records import ANALOGY, PAIR
from lorweb.training.baseline import new_variant
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.loop import Keeper, train
from lorweb.training.optimizer import build_optimizer
from lorweb.training.sampler import AnalogySampler
from lorweb.training.sheets import sample_sheet
from lorweb.training.step import Run
from lorweb.training.validation import HeldOut, ValidationSet, validate
from lorweb.training.variants import basis_config
from pipelines import encode, evaluate
from pipelines._rows import in_process
from tests.model_tiny import QUADRANT
from tests.pipelines.evaluated import make_project
from tests.training.made import equal, train_section, weights
from tests.training.test_loop import Recorder

pytestmark = pytest.mark.slow

MODELS = ("lorweb", "lorweb_shuffled", "lorweb_identity", "base", "copy", "codec_copy", "codec_truth")
CANDIDATE = Path("models/candidate")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project with a random candidate, encoded with whole grids."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root, MODELS)
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["encode"] |= {"latents": "grid", "grid_analogies": 2}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        encode.main(in_process)
    return root


@pytest.fixture(autouse=True)
def inside(whole, monkeypatch):
    monkeypatch.chdir(whole)


def test_evaluation_draws_what_the_pipeline_draws_and_refuses_a_model_of_the_other_way():
    metadata = read_metadata(CANDIDATE)
    assert metadata.latents == "quadrant"
    with pytest.raises(SystemExit, match=r"was trained with latents quadrant, but data/encoded has latents grid"):
        evaluate.main(in_process)
    write_metadata(CANDIDATE, replace(metadata, latents="grid"))
    evaluate.main(in_process)
    rows = {(row["model"], row["analogy"]): row for row in read_table(Path("data/evaluation"), ANSWER).to_pylist()}
    analogy = next(row for row in read_table(Path("data/analogies"), ANALOGY).to_pylist())
    pairs = {row["id"]: row for row in read_table(Path("data/pairs"), PAIR).to_pylist()}
    exemplar, query = pairs[analogy["exemplar"]], pairs[analogy["query"]]
    size = Size(QUADRANT, QUADRANT)
    a, a2, b = (decode_quadrant(png, size) for png in (exemplar["before"], exemplar["after"], query["before"]))
    pipe = AnalogyPipeline.from_pretrained(CANDIDATE, device="cpu")
    assert pipe.rule == CanvasRule(size, latents="grid")
    row = rows["lorweb", analogy["id"]]
    drawn = pipe(a, a2, b, num_inference_steps=2, guidance_scale=1.0, seed=row["seed"]).images[0]
    assert off(drawn, row["image"]) < 0.5
    pipe.rule = replace(pipe.rule, latents="quadrant")
    other = pipe(a, a2, b, num_inference_steps=2, guidance_scale=1.0, seed=row["seed"]).images[0]
    assert off(other, row["image"]) > off(drawn, row["image"])
    codec = [rows[name, analogy["id"]]["image"] for name in ("codec_copy", "codec_truth")]
    assert codec[0] != codec[1]


def off(image: Image.Image, png: bytes) -> float:
    stored = np.asarray(Image.open(io.BytesIO(png)), dtype=float)
    return float(np.abs(np.asarray(image, dtype=float) - stored).mean())


def started(encoded: Encoded, base, work: Path) -> Run:
    config = train_section(steps=4, checkpoint_every=2, validate_every=4, batch_size=2)
    basis = basis_config(config.basis, encoded.query_dim, encoded.query_mode)
    variant = new_variant("lorweb", base.transformer, basis, seed=0)
    sampler = AnalogySampler(load_train_pairs(Path("data/analogies")), 0, 2, 1.0, encoded.pool)
    optimizer = build_optimizer(variant.adapters.values(), variant.router.values(), config.optimizer)
    return Run(variant, encoded, sampler, optimizer, config, work)


def test_training_draws_from_the_encoded_list_goes_on_after_a_kill_and_shows_whole_grids(tmp_path):
    encoded = Encoded.load(Path("data/encoded"))
    name = yaml.safe_load(Path("params.yaml").read_text())["encode"]["base"]
    analogy = read_table(Path("data/analogies"), ANALOGY).to_pylist()[0]
    triple = Triple(analogy["exemplar"], analogy["query"], "")
    held_out = [ValidationSet("seen", (HeldOut("v", analogy["task"], triple, analogy["exemplar"]),))]
    finished = []
    for kind, kill in (("whole", None), ("cut", 2)):
        if kill is not None:
            cut = started(encoded, load_base(name, torch.float32, "cpu"), tmp_path / kind)
            with pytest.raises(KeyboardInterrupt):
                train(cut, held_out, Keeper(tmp_path / kind, {"data": "1"}), Recorder(kill))
        base = load_base(name, torch.float32, "cpu")
        run = started(encoded, base, tmp_path / kind)
        train(run, held_out, Keeper(tmp_path / kind, {"data": "1"}), Recorder())
        finished.append((run, base))
    assert equal(weights(finished[0][0]), weights(finished[1][0]))
    sheet = sample_sheet(*finished[0], list(held_out[0].analogies))
    assert sheet.width == 5 * QUADRANT
    same = encoded.grid_batch([replace(triple, unedited=True)])
    top = [quadrant_of_latents(grid, 0, 1) for grid in (same.x0_BCHW, same.y_BCHW)]
    assert all(bool(quadrant.isfinite().all()) for quadrant in top)
    assert not torch.equal(same.y_BCHW, encoded.grid_batch([triple]).y_BCHW)
    assert validate(finished[0][0], held_out[0].identity) != validate(finished[0][0], held_out[0])


def test_control_and_target_grids_are_there_and_the_manifest_says_how():
    encoded = Encoded.load(Path("data/encoded"))
    assert {key.count(",") for key in encoded.stored.grids} == {2, 3}
    facts = json.loads(Path("data/encoded/_manifest.json").read_text())["params"]
    assert (facts["latents"], facts["grid_analogies"], facts["dtype"]) == ("grid", 2, "float16")
