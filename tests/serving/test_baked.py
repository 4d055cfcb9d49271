"""A baked LoRA in MLflow's diffusers flavour: logged with base, licences and lineage, loaded as a stock pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.commands import load
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.grid import Size, control_grid, quadrant_of
from lorweb.kontext.metadata import read_metadata
from lorweb.serving.artifacts import Submission
from lorweb.serving.baked import log_baked, named_base, read_bake
from lorweb.serving.registry import Registry
from tests.cli_cases import run, working_folder
from tests.kontext_tiny import TEXT_TOKENS, drawn_image, stock_call
from tests.model_tiny import save_model

SIDE = 32
IMAGES = [drawn_image(seed, SIDE, SIDE) for seed in (1, 2, 3)]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the hub fails the test."""
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", refuse)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_commits", refuse)


@pytest.fixture
def lora(root: Path, model: Path) -> Path:
    """A bake of the tiny model, by the command."""
    for name, image in zip(("a", "a2", "b"), IMAGES, strict=True):
        image.save(root / f"{name}.png")
    from lorweb import cli_mix
    from lorweb.cli_options import Dtype, LoraStyle

    out = root / "sepia.safetensors"
    cli_mix.bake(
        out,
        root / "a.png",
        root / "a2.png",
        [root / "b.png"],
        None,
        None,
        None,
        LoraStyle.diffusers,
        Dtype.float32,
        str(model),
    )
    return out


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow
def test_the_logged_lora_loads_as_a_stock_pipeline_that_paints_the_analogy(root, model, lora):
    import mlflow.diffusers

    uri = log_baked(lora, str(model), root)
    found = mlflow.diffusers.load_model(uri)
    assert (found.adapter_type, found.base_model_revision) == ("lora", None)
    pipe = found.load_pipeline(device="cpu", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "guidance_scale": 1.0}
    grid = stock_call(pipe, control_grid(*IMAGES), 7, prompt="", max_sequence_length=TEXT_TOKENS, **settings)
    live, _ = load(str(model))
    live.rule = CanvasRule(Size(SIDE, SIDE), latents="grid")
    drawn = live(*IMAGES, seed=7, mix=live.mix(*IMAGES), **settings).images[0]
    plain = live(*IMAGES, seed=7, strength=0.0, **settings).images[0]
    assert np.abs(pixels(quadrant_of(grid, 1, 1)) - pixels(drawn)).max() <= 1
    assert np.abs(pixels(drawn) - pixels(plain)).max() > 5, "the edit hardly shows"


@pytest.mark.slow
def test_tags_say_base_bake_and_the_licences_and_lineage_of_the_model(root, model, lora, monkeypatch):
    monkeypatch.chdir(root)
    registry = Registry("lorweb", root)
    tags = {"licence": "CC0-1.0", "data_licences": "CC0-1.0: 3", "lineage_key": "k1", "ray_job_id": "secret"}
    registry.promote(registry.submit(Submission(model, {}, tags)))
    import mlflow

    uri = log_baked(lora, "models:/lorweb@champion", root, register_as="sepia")
    bake, metadata = read_bake(lora), read_metadata(model)
    expected = {
        **{name: tags[name] for name in ("licence", "data_licences", "lineage_key")},
        "base": metadata.base, "base_revision": metadata.base_revision, "source_model": "models:/lorweb/1",
        "rank": str(bake["rank"]), "mix": bake["mix"], "basis_sha256": bake["basis_sha256"],
    }  # fmt: skip
    version = registry.client.get_model_version("sepia", "1")
    for found in (mlflow.get_logged_model(uri.removeprefix("models:/")).tags, version.tags):
        assert {name: found.get(name) for name in expected} == expected
        assert "ray_job_id" not in found
    assert mlflow.diffusers.load_model("models:/sepia/1").base_model == metadata.base
    for asked in ("models:/lorweb/1", "champion"):
        found = mlflow.get_logged_model(log_baked(lora, asked, root).removeprefix("models:/")).tags
        assert (found["source_model"], found["licence"]) == ("models:/lorweb/1", "CC0-1.0"), asked


def test_a_model_without_licences_says_so(root, model, lora):
    import mlflow

    uri = log_baked(lora, str(model), root)
    assert mlflow.get_logged_model(uri.removeprefix("models:/")).tags["licence"] == "not stated"


def test_what_is_no_bake_of_the_model_is_refused(root, model, parts, lora):
    other = save_model(parts, root / "other", seed=5)
    with pytest.raises(ValueError, match=r"was baked from the basis .*, but .* is .*; give the model it is of"):
        log_baked(lora, str(other), root)
    with pytest.raises(ValueError, match="is no baked analogy; write one with `lorweb bake"):
        log_baked(model / "basis.safetensors", str(model), root)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        log_baked(root / "none.safetensors", str(model), root)
    live, _ = load(str(model))
    baked = live.bake(live.mix(*IMAGES))
    baked.save(root / "comfy.safetensors", "comfyui", {"basis_sha256": read_bake(lora)["basis_sha256"]})
    with pytest.raises(ValueError, match="has the keys of comfyui; bake it again with --format diffusers"):
        log_baked(root / "comfy.safetensors", str(model), root)


def test_a_base_of_the_hub_keeps_its_name_and_the_commit_of_the_cache(parts, model, tmp_path, monkeypatch):
    """The cache's layout is the hub's; nothing is fetched, and no commit is named that was not the training's."""
    from dataclasses import replace

    import huggingface_hub

    metadata = replace(read_metadata(model), base="owner/kontext")
    snapshot = tmp_path / "models--owner--kontext" / "snapshots" / "0123abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(parts / "kontext")
    (tmp_path / "models--owner--kontext" / "refs").mkdir()
    (tmp_path / "models--owner--kontext" / "refs" / "main").write_text("0123abc")
    look = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a: look(*a, cache_dir=tmp_path))
    assert named_base(metadata) == type(named_base(metadata))("owner/kontext", "0123abc")
    assert named_base(replace(metadata, base_revision="other")).commit is None
    assert named_base(replace(metadata, base="owner/absent")).commit is None


def test_the_command_logs_what_it_bakes(tmp_path, root, model, monkeypatch, capsys):
    working_folder(tmp_path, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    code, out, err = run(
        capsys, "bake", "a.png", "a2.png", "b.png", "-o", "l.safetensors", "--model", str(model), "--log"
    )
    assert code == 0, err
    uri = out.split()[-1]
    import mlflow.diffusers

    assert uri.startswith("models:/") and mlflow.diffusers.load_model(uri).adapter_type == "lora"
    arguments = ("bake", "a.png", "a2.png", "b.png", "-o", "c.safetensors", "--format", "comfyui", "--log")
    code, _, err = run(capsys, *arguments, "--model", str(model))
    assert code == 1 and "--log wants --format diffusers" in err and not Path("c.safetensors").exists()
