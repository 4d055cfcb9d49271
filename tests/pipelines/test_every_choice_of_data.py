"""Editors, scorers, query modes and balances that no other test takes through a whole stage, on tiny random models."""

import json
from collections import Counter

import pytest
from safetensors.numpy import save_file

from lorweb.data.manifest import read_manifest
from lorweb.data.shards import read_table
from lorweb.kontext.load import read_defaults
from lorweb.records import ANALOGY, PAIR, TRAIN_PAIR, load_scores
from lorweb.training.dataset import Encoded
from pipelines import assemble, encode, generate
from pipelines import filter as filtering
from pipelines._rows import in_process
from tests.data.editing import save_lora, save_tiny_diffusion
from tests.data.judging import NUMBERS, VERDICT
from tests.data.scoring import drawn, save_classifier, save_clip, save_dino, save_judge
from tests.data.test_scorer_heads import lpips_file
from tests.kontext_tiny import save_tiny_kontext
from tests.model_tiny import save_tiny_clip
from tests.pipelines.encoded_project import copy_with
from tests.pipelines.projects import POOL, write_params
from tests.pipelines.scorer_project import EMBEDDED, eight_candidates, told, use

pytestmark = pytest.mark.slow
DRAWN = {
    "prompt": "{instruction}", "dtype": "float32", "offload": "none", "side": 32, "num_inference_steps": 2,
    "guidance_scale": 2.5, "loras": [], "pool": POOL,
}  # fmt: skip
IMAGES = {**DRAWN, "editor": "diffusers", "pipeline": "image_to_image", "strength": 0.5, "arguments": {}}


def test_scorers_by_models_of_others(project):
    eight_candidates(project)
    clip = str(save_clip(project / "clip"))
    save_file({"weight": drawn((1, 16), 9), "bias": drawn((1,), 10)}, project / "head.safetensors")
    use(
        project,
        {**EMBEDDED},
        {"scorer": "clip", "model": clip, "before": "{caption}", "after": "{instruction}", "blank": "x", "pool": POOL},
        {"scorer": "dino", "model": str(save_dino(project / "dino")), "pool": POOL},
        {"scorer": "lpips", "net": "alex", "weights": str(lpips_file(project, "alex")), "pool": POOL},
        {"scorer": "aesthetic", "model": clip, "head": str(project / "head.safetensors"), "pool": POOL},
        {"scorer": "classifier", "name": "unsafe", "labels": ["nsfw", "drawn nsfw"], "pool": POOL,
         "model": str(save_classifier(project / "classifier"))},
        {"scorer": "judge", "model": str(save_judge(project / "judge", VERDICT)), "endpoint": None, "pool": POOL,
         **NUMBERS, "retries": 0, "temperature": 0.01, "dtype": "bfloat16"},
        duplicates={"distance": 1, "cosine": None},
    )  # fmt: skip
    filtering.main(in_process)
    kept, rejects = told(project)
    assert kept and {row["check"] for row in rejects} <= {"duplicate"}
    for row in kept:
        scores = load_scores(row["scores"])
        assert {"clip_direction", "lpips", "aesthetic", "unsafe", "judge_overall"} <= set(scores), sorted(scores)
        assert any(name.startswith("dino") for name in scores)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_kontext_with_a_lora(project, dtype):
    lora = {"path": str(save_lora(project / "lora")), "weight": 0.5}
    base = str(save_tiny_kontext(project / "base"))
    entry = {**DRAWN, "editor": "kontext", "tasks": ["colour/sepia"], "model": base, "compile": False}
    write_params(
        project, {"generate": {"editors": [{**entry, "dtype": dtype, "loras": [lora]}], "sources_per_task": 2}}
    )
    generate.main(in_process)
    assert read_table(project / "data/candidates", PAIR).num_rows == 2


def test_diffusers_in_its_three_ways(project):
    stock, base = str(save_tiny_diffusion(project / "sd")), str(save_tiny_kontext(project / "base"))
    assert read_defaults(project / "base").num_inference_steps == 2
    entries = [
        {**IMAGES, "tasks": ["colour/sepia"], "model": stock},
        {**IMAGES, "tasks": ["colour/invert"], "model": stock, "pipeline": "inpaint", "strength": 1.0},
        {**IMAGES, "tasks": ["colour/grey"], "model": base, "pipeline": "own", "strength": None,
         "arguments": {"max_sequence_length": 16}},
    ]  # fmt: skip
    write_params(project, {"generate": {"editors": entries, "sources_per_task": 2}})
    generate.main(in_process)
    made = Counter(row["task"] for row in read_table(project / "data/candidates", PAIR).to_pylist())
    assert set(made.values()) == {2} and {"colour/sepia", "colour/invert", "colour/grey"} <= set(made)


@pytest.mark.parametrize(  # CLIP's embedding is 8 wide here, a patch token 16
    ("mode", "width"), [("ca'-ca", 8), ("ca'-ca+cb", 8), ("aa'bb'", 8), ("paa'b", 16), ("cat-paa'b", 48)]
)
def test_query_modes(encoded, tmp_path, monkeypatch, mode, width):
    clip = save_tiny_clip(tmp_path / "clip")
    grids = 3 if mode in ("aa'bb'", "paa'b") else 0
    folder = copy_with(encoded, tmp_path, query_mode=mode, encoder=f"clip:{clip}", grid_analogies=grids)
    monkeypatch.chdir(folder)
    encode.main(in_process)
    assert read_manifest(folder / "data/encoded")["params"]["query_mode"] == mode
    data = Encoded.load(folder / "data/encoded")
    assert (data.query_mode, data.query_dim) == (mode, width)


@pytest.mark.parametrize("changed", [{"balance": "edit_type", "holdout_tasks": 0.0}, {"balance": "sqrt"}], ids=str)
def test_balances(encoded, tmp_path, monkeypatch, changed):
    folder = copy_with(encoded, tmp_path)
    section = {"train_subjects": [], "test_subjects": 0.4, "val_subjects": 0.2, **changed}
    write_params(folder, {"assemble": section})
    monkeypatch.chdir(folder)
    assemble.main()
    weights = read_table(folder / "data/analogies/train", TRAIN_PAIR)["weight"].to_pylist()
    assert weights and min(weights) > 0
    assert read_table(folder / "data/analogies", ANALOGY).num_rows
    assert json.loads((folder / "metrics/assemble.json").read_text())["train_pairs"] == len(weights)
