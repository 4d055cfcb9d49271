"""`lorweb doctor` on models of filter, generate and evaluate; nothing is fetched."""

import socket
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from lorweb.config import load_params
from lorweb.doctor import examine
from lorweb.doctor_models import data_models
from tests.data.editing import save_lora, save_tiny_diffusion
from tests.data.judging import endpoint_judge
from tests.data.scoring import save_clip, save_dino
from tests.evaluation.judges import judge_params
from tests.model_folders import save_tiny_llm
from tests.pipelines.projects import POOL, write_params

CLIP = {"scorer": "clip", "before": "{caption}", "after": "{instruction}", "blank": "a picture", "pool": POOL}
DIFFUSION = {
    "tasks": ["colour/*"],
    "prompt": "{instruction}",
    "dtype": "float32",
    "offload": "none",
    "side": 64,
    "num_inference_steps": 2,
    "guidance_scale": 2.0,
    "pool": POOL,
}
STOCK = {**DIFFUSION, "editor": "diffusers", "pipeline": "image_to_image", "strength": 0.9, "arguments": {}}
KONTEXT = {**DIFFUSION, "editor": "kontext", "compile": False}
LLM = {
    "source": "llm",
    "tasks": 2,
    "per_call": 2,
    "max_new_tokens": 8,
    "max_words": 8,
    "temperature": 1.0,
    "dtype": "float32",
    "pool": POOL,
}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A project folder without a network: whoever opens a connection fails the test."""

    def refuse(*where):
        raise AssertionError(f"a connection to {where}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def told(folder, scorers=(), editors=(), instructions=None):
    """{name: (state, text)} of the models that these entries name."""
    sections = {
        "filter": {"scorers": list(scorers) or [{"scorer": "embedded", "pool": POOL}]},
        "generate": {
            "editors": list(editors) or [{"editor": "embedded", "tasks": ["colour/*"], "pool": POOL}],
            **({"instructions": instructions} if instructions else {}),
        },
    }
    write_params(folder, sections)
    return {found.name: (found.state, found.text) for found in data_models(load_params())}


def test_models_that_are_here_are_named_with_their_size(desk):
    save_clip(desk / "clip"), save_dino(desk / "dino"), save_tiny_llm(desk / "llm"), save_tiny_diffusion(desk / "sd")
    lora = save_lora(desk / "lora")
    found = told(
        desk,
        [
            {**CLIP, "model": "clip"},
            {"scorer": "dino", "model": str(desk / "dino"), "pool": POOL},
            {"scorer": "features", "name": "second", "encoder": "clip:clip", "pool": POOL},
            {"scorer": "features", "name": "packaged", "encoder": "efficientnet-lite0+style", "pool": POOL},
        ],
        [
            {**STOCK, "model": "sd", "loras": []},
            {**KONTEXT, "model": "tiny", "loras": [{"path": str(lora), "weight": 1.0}]},
        ],
        {**LLM, "model": "llm"},
    )
    assert {state for state, _ in found.values()} == {"ok"}
    assert list(found) == [
        "generate.instructions llm",
        "generate.editors[0] diffusers",
        "generate.editors[1] kontext",
        "generate.editors[1] kontext LoRA",
        "filter.scorers[0] clip",
        "filter.scorers[1] dino",
        "filter.scorers[2] features clip",
    ]
    size = sum(path.stat().st_size for path in Path("sd").rglob("*") if path.is_file())
    assert found["generate.editors[0] diffusers"][1] == f"sd, {size / 1e6:.0f} MB"


def test_what_is_not_here_is_missing_with_the_way_to_get_it(desk):
    save_clip(desk / "torn")
    weights = next(iter((desk / "torn").glob("*.safetensors")))
    weights.write_bytes(weights.read_bytes()[:200])
    (desk / "empty").mkdir()
    found = told(
        desk,
        [
            {**CLIP, "model": "./clip"},
            {"scorer": "aesthetic", "model": "torn", "head": "head.pth", "pool": POOL},
            {"scorer": "lpips", "net": "alex", "weights": "alex.safetensors", "pool": POOL},
            {"scorer": "classifier", "name": "unsafe", "model": "empty", "labels": ["nsfw"], "pool": POOL},
        ],
        [
            {**STOCK, "model": "empty", "loras": [{"path": "no.safetensors", "weight": 1.0}]},
            {**KONTEXT, "model": "./k", "loras": []},
        ],
        {**LLM, "model": "owner/name"},
    )
    assert {state for state, _ in found.values()} == {"missing"} and len(found) == 9
    words = {
        "filter.scorers[0] clip": "run `hf download OWNER/NAME --local-dir ./clip`, or give a hub id",
        "filter.scorers[1] aesthetic": "model.safetensors",
        "filter.scorers[1] aesthetic head": "no file 'head.pth'",
        "filter.scorers[2] lpips": "docs/data_scorers.md says how",
        "filter.scorers[3] classifier": "no config.json in 'empty'; give the folder of a transformers model",
        "generate.editors[0] diffusers": "empty has no model_index.json",
        "generate.editors[0] diffusers LoRA": "no LoRA at no.safetensors; fetch the file",
        "generate.editors[1] kontext": "no base at './k'",
        "generate.instructions llm": "no model folder at 'owner/name'; run `hf download OWNER/NAME --local-dir",
    }
    assert not {name: found[name] for name, text in words.items() if text not in found[name][1]}


def test_hub_ids_are_looked_up_in_the_cache_and_never_fetched(desk, monkeypatch):
    cached = desk / "hub/models--me--clip"
    (cached / "snapshots/abc").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("abc")
    (cached / "snapshots/abc/config.json").write_text("{}")
    scorers = [{**CLIP, "model": "me/clip"}, {"scorer": "dino", "model": "me/dino", "pool": POOL}]
    found = told(desk, scorers)
    assert found["filter.scorers[0] clip"] == ("ok", "me/clip, in the hub's cache")
    state, text = found["filter.scorers[1] dino"]
    assert state == "missing" and "HF_HUB_OFFLINE is set; run `hf download me/dino`" in text
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    state, text = told(desk, scorers)["filter.scorers[1] dino"]
    assert state == "note" and text.endswith("or now by `hf download me/dino`")


def test_servers_are_named_and_never_called(desk):
    found = told(desk, [endpoint_judge("http://127.0.0.1:9/v1") | {"pool": POOL}])
    assert found == {
        "filter.scorers[0] judge": ("note", "asks 'some-judge' at http://127.0.0.1:9/v1, which must run then")
    }


def test_the_doctor_tells_them_for_the_profile_that_is_asked_for(desk, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_params(desk)
    (desk / "profiles").mkdir()
    profile = {"filter": {"scorers": [{**CLIP, "model": "nowhere", "pool": {**POOL, "gpus": 1}}]}}
    (desk / "profiles/mine.yaml").write_text(yaml.safe_dump(profile))
    plain, mine = ({found.name: found for found in examine(desk, name)} for name in (None, "mine"))
    assert set(mine) - set(plain) == {"filter.scorers[0] clip"}
    assert mine["filter.scorers[0] clip"].state == "missing" and "base" in plain
    assert plain["gpu"].state == "ok"


def test_backbones_judge_and_published_checkpoint_of_evaluate(desk):
    save_clip(desk / "clip")
    judge = judge_params("http://127.0.0.1:9/v1", graded=["lorweb"], rivals=[])
    changes = {"perceptual": "lpips:none.safetensors", "direction": f"clip:{desk / 'clip'}", "judge": judge}
    models = {"official": "published", "models": ["lorweb", "official", "base", "copy"]}
    write_params(desk, {"evaluate": changes | models})
    found = {f.name: (f.state, f.text) for f in data_models(load_params()) if f.name.startswith("evaluate")}
    assert {name: state for name, (state, _) in found.items()} == {
        "evaluate.perceptual": "missing",
        "evaluate.direction": "ok",
        "evaluate.official": "missing",
        "evaluate.judge": "note",
    }
    assert "no file 'none.safetensors'" in found["evaluate.perceptual"][1]
    assert "give the folder with the weights" in found["evaluate.official"][1]
