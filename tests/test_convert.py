"""Conversion there and back is the same bytes, whichever format one starts from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from lorweb.basis import checkpoint
from lorweb.basis.checkpoint import save, save_official
from lorweb.basis.files import read_metadata as safetensors_metadata
from lorweb.convert import Conversion, convert
from lorweb.kontext.metadata import ModelMetadata, read_metadata, write_metadata
from tests.basis.cases import INTERNAL, config, trained
from tests.kontext_tiny import drawn_image, save_tiny_kontext, tiny_transformer
from tests.model_tiny import save_model, save_parts

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "no projection": {"projection": "none", "query_dim": 8},
    "shared projection": {"projection": "shared"},
    "internal": {**INTERNAL, "pooling": "max"},
    "targets": {"targets": ("*.attn.to_q", "*.norm.linear")},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_kontext(tmp_path_factory.mktemp("base") / "kontext"))


def model(changes: dict[str, Any]) -> Any:
    transformer = tiny_transformer(0)
    trained(transformer, config(**changes))
    return transformer


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
def test_ours_to_official_and_back(base: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    save(model(changes), tmp_path / "ours" / "basis.safetensors", {"seed": "3"})
    write_metadata(tmp_path / "ours", ModelMetadata(base, "r1", "clip:x", "r2", 64, 6, 1.0, {"naïve": 1}))
    there = convert(tmp_path / "ours", tmp_path / "official", Conversion("official", dtype="float32"))
    assert names(there.paths) == ["lorweb.safetensors", "config.yaml"] and there.notes == []
    network = yaml.safe_load(there.paths[1].read_text(encoding="utf-8"))["config"]["process"][0]["network"]
    assert network["network_kwargs"]["external_query_model"] == "clip:x"
    back = convert(tmp_path / "official", tmp_path / "back", Conversion("lorweb"))
    assert names(back.paths) == ["basis.safetensors", "metadata.json"]
    for path in back.paths:
        assert path.read_bytes() == (tmp_path / "ours" / path.name).read_bytes(), path.name


def theirs(folder: Path, base: str | None, dtype: torch.dtype = torch.float16) -> tuple[Path, Path]:
    """The files of another program: fields that mean nothing to us, an ignored alpha, comments, its own header."""
    weights, settings = save_official(model({"heads": 2}), folder, "lorweb_model", dtype)
    tensors = load_file(weights)
    keys = sorted(tensors)[::5]
    save_file(tensors | {key: tensors[key].float() for key in keys}, weights, {"software": "{'name': 'x'}", "v": "1"})
    tree = yaml.safe_load(settings.read_text(encoding="utf-8"))
    process = tree["config"]["process"][0]
    process |= {"train": {"steps": 10000}} | ({"model": {"name_or_path": base, "quantize": True}} if base else {})
    process["network"]["linear_alpha"] = 64
    process["network"]["network_kwargs"]["external_query_model"] = "openai/clip-vit-large-patch14"
    settings.write_text("# trained elsewhere\n" + yaml.safe_dump(tree), encoding="utf-8")
    return weights, settings


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_official_to_ours_and_back(base: str, tmp_path: Path, dtype: torch.dtype) -> None:
    weights, settings = theirs(tmp_path / "theirs", base, dtype)
    ours = convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb"))
    assert names(ours.paths) == ["basis.safetensors", "metadata.json"] and ours.notes == []
    assert read_metadata(tmp_path / "ours").latents == "grid", "as their trainer makes latents"
    back = convert(tmp_path / "ours", tmp_path / "back", Conversion("official"))
    assert names(back.paths) == ["lorweb_model.safetensors", "config.yaml"] and back.notes == []
    assert back.paths[1].read_bytes() == settings.read_bytes()
    assert safetensors_metadata(back.paths[0]) == safetensors_metadata(weights)
    before, after = load_file(weights), load_file(back.paths[0])
    assert before.keys() == after.keys() and len(before) > 50
    assert {value.dtype for value in before.values()} == {dtype, torch.float32}
    assert all(before[key].dtype == after[key].dtype and torch.equal(before[key], after[key]) for key in before)


def test_what_we_add_to_theirs_survives_and_stands_apart(base: str, tmp_path: Path) -> None:
    _, settings = theirs(tmp_path / "theirs", base)
    convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb"))
    own = ModelMetadata(base, "r1", "clip:x", "r2", 64, 6, 1.0, {"tuned": "by hand"})
    write_metadata(tmp_path / "ours", own)
    _, written = convert(tmp_path / "ours", tmp_path / "official", Conversion("official")).paths
    text = written.read_text(encoding="utf-8")
    assert text.startswith(settings.read_text(encoding="utf-8")) and "read by lorweb alone" in text
    convert(tmp_path / "official", tmp_path / "again", Conversion("lorweb"))
    assert read_metadata(tmp_path / "again") == own
    _, last = convert(tmp_path / "again", tmp_path / "last", Conversion("official")).paths
    assert last.read_bytes() == written.read_bytes()


@pytest.mark.slow
def test_a_converted_checkpoint_draws_what_the_original_draws(tmp_path: Path) -> None:
    from lorweb import AnalogyPipeline

    parts = save_parts(tmp_path / "parts")
    original = save_model(parts, tmp_path / "model")
    pictures = [drawn_image(seed, 40, 40) for seed in (1, 2, 3)]
    expected = AnalogyPipeline.from_pretrained(original)(*pictures, num_inference_steps=2, guidance_scale=1.0)
    weights, settings = convert(original, tmp_path / "official", Conversion("official", dtype="float32")).paths
    tree = yaml.safe_load(settings.read_text(encoding="utf-8"))
    del tree["lorweb"]  # as another program would have written it
    tree["config"]["process"][0]["model"] = {"name_or_path": str(parts / "kontext")}
    settings.write_text(yaml.safe_dump(tree), encoding="utf-8")
    convert(weights, tmp_path / "converted", Conversion("lorweb"))
    pipe = AnalogyPipeline.from_pretrained(tmp_path / "converted")
    pipe.rule = AnalogyPipeline.from_pretrained(original).rule  # the size of its training, which they do not store
    found = pipe(*pictures, num_inference_steps=2, guidance_scale=1.0)
    assert torch.equal(found.mix_BLN, expected.mix_BLN)
    assert found.images[0].tobytes() == expected.images[0].tobytes()


def test_what_nothing_names_has_to_be_said(base: str, tmp_path: Path) -> None:
    _, settings = theirs(tmp_path / "theirs", None)
    with pytest.raises(ValueError, match="does not name the base it was trained on; give it as --base"):
        convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb"))
    assert read_metadata_of(tmp_path, Conversion("lorweb", base)).encoder == "clip:openai/clip-vit-large-patch14"
    text = settings.read_text(encoding="utf-8").replace("openai/clip-vit-large-patch14", "some/encoder")
    settings.write_text(text.replace("lora_heads: 2", "lora_heads: 2\n        more_loras: 3"), encoding="utf-8")
    done = convert(tmp_path / "theirs", tmp_path / "none", Conversion("lorweb", base))
    assert names(done.paths) == ["basis.safetensors"]
    assert "--encoder" in done.notes[0] and "settings that mean nothing here: more_loras" in done.notes[1]
    assert read_metadata_of(tmp_path, Conversion("lorweb", base, "siglip2:x")).encoder == "siglip2:x"


def read_metadata_of(root: Path, how: Conversion) -> ModelMetadata:
    convert(root / "theirs", root / "ours", how)
    found = read_metadata(root / "ours")
    assert (found.base, found.base_revision, found.encoder_revision) == (how.base, "", "")
    return found


def test_rounding_is_said(tmp_path: Path) -> None:
    transformer = model({})
    save(transformer, tmp_path / "ours" / "basis.safetensors", {})
    done = convert(tmp_path / "ours", tmp_path / "half", Conversion("official"))
    exact = load_file(convert(tmp_path / "ours", tmp_path / "full", Conversion("official", dtype="float32")).paths[0])
    half = load_file(done.paths[0])
    worst = max(float((half[key].double() - exact[key].double()).abs().max()) for key in exact)
    assert done.notes[0].startswith(f"rounded to torch.float16: by at most {worst:.3g} (transformer.") and worst > 0


def test_a_basis_that_was_trained_on_does_not_keep_a_yaml_that_is_wrong_by_now(base: str, tmp_path: Path) -> None:
    weights, settings = save_official(model({}), tmp_path / "theirs")
    convert(weights, tmp_path / "ours", Conversion("lorweb", base))
    _, facts = checkpoint.read_config(tmp_path / "ours" / "basis.safetensors")
    came_as = json.loads(facts["official"])
    came_as["config"] = came_as["config"].replace("lora_softmax: true", "lora_softmax: false")
    assert came_as["config"] != settings.read_text(encoding="utf-8")
    save(model({}), tmp_path / "ours" / "basis.safetensors", {"official": json.dumps(came_as)})
    _, written = convert(tmp_path / "ours", tmp_path / "back", Conversion("official")).paths
    assert "lora_softmax: true" in written.read_text(encoding="utf-8")


def test_a_shared_projection_that_was_parted_is_not_shared_any_more(base: str, tmp_path: Path) -> None:
    weights, _ = save_official(model({"projection": "shared"}), tmp_path / "theirs", dtype=torch.float32)
    tensors = load_file(weights)
    key = sorted(key for key in tensors if "att_lora_to_q" in key)[3]
    save_file(tensors | {key: tensors[key] + 1}, weights)
    with pytest.raises(ValueError, match="so that no projection is shared; load it as 'linear'"):
        convert(weights, tmp_path / "ours", Conversion("lorweb", base))


@pytest.mark.parametrize("text", ["{}", "[]", "{"])
def test_a_damaged_metadata_file_is_named(tmp_path: Path, text: str) -> None:
    save(model({}), tmp_path / "ours" / "basis.safetensors", {})
    (tmp_path / "ours" / "metadata.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"metadata\.json (lacks|holds|is no JSON)"):
        convert(tmp_path / "ours", tmp_path / "out", Conversion("official"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"to": "onnx"}, "--to is 'onnx'; use 'official' or 'lorweb'"),
        ({"to": "official", "base": "tiny"}, "--base and --encoder say what an official checkpoint needs"),
        ({"to": "official", "dtype": "int8"}, "--dtype is 'int8'; use float16, bfloat16, float32"),
        ({"to": "lorweb", "dtype": "float16"}, "--dtype is of official weights; our format keeps what they have"),
    ],
)
def test_what_cannot_be_asked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Conversion(**settings)
