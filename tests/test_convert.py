"""Conversion there and back is the same bytes, whichever format one starts from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lorweb.basis import checkpoint
from lorweb.basis.checkpoint import save, save_official
from lorweb.convert import Conversion, convert
from tests.basis.cases import INTERNAL, config, trained
from tests.kontext_tiny import save_tiny_kontext, tiny_transformer

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "no projection": {"projection": "none", "query_dim": 8},
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


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
def test_ours_to_official_and_back(base: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    save(model(changes), tmp_path / "ours" / "basis.safetensors", {"seed": "3"})
    (tmp_path / "ours" / "metadata.json").write_text('{"encoder": "clip:x", "naïve": 1}\n', encoding="utf-8")
    there = convert(tmp_path / "ours", tmp_path / "official", Conversion("official", base, dtype="float32"))
    assert [path.name for path in there] == ["lorweb.safetensors", "config.yaml"]
    network = yaml.safe_load(there[1].read_text(encoding="utf-8"))["config"]["process"][0]["network"]
    assert network["network_kwargs"]["external_query_model"] == "clip:x"
    back = convert(tmp_path / "official", tmp_path / "back", Conversion("lorweb", base))
    assert [path.name for path in back] == ["basis.safetensors", "metadata.json"]
    for path in back:
        assert path.read_bytes() == (tmp_path / "ours" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_official_to_ours_and_back(base: str, tmp_path: Path, dtype: torch.dtype) -> None:
    """The config.yaml of another program: fields that mean nothing to us, an ignored alpha, comments."""
    weights, settings = save_official(model({"heads": 2}), tmp_path / "theirs", "lorweb_model", dtype)
    tree = yaml.safe_load(settings.read_text(encoding="utf-8"))
    tree["config"]["process"][0] |= {"model": {"name_or_path": "x/y", "quantize": True}, "train": {"steps": 10000}}
    tree["config"]["process"][0]["network"]["linear_alpha"] = 64
    settings.write_text("# trained elsewhere\n" + yaml.safe_dump(tree), encoding="utf-8")
    ours = convert(tmp_path / "theirs", tmp_path / "ours", Conversion("lorweb", base))
    assert [path.name for path in ours] == ["basis.safetensors"]
    back = convert(tmp_path / "ours", tmp_path / "back", Conversion("official", base))
    assert [path.name for path in back] == ["lorweb_model.safetensors", "config.yaml"]
    assert back[1].read_bytes() == settings.read_bytes()
    before, after = load_file(weights), load_file(back[0])
    assert before.keys() == after.keys() and len(before) > 50
    assert all(before[key].dtype == after[key].dtype == dtype for key in before)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_basis_that_was_trained_on_does_not_keep_a_yaml_that_is_wrong_by_now(base: str, tmp_path: Path) -> None:
    weights, settings = save_official(model({}), tmp_path / "theirs")
    convert(weights, tmp_path / "ours", Conversion("lorweb", base))
    _, facts = checkpoint.read_config(tmp_path / "ours" / "basis.safetensors")
    came_as = json.loads(facts["official"])
    came_as["config"] = came_as["config"].replace("lora_softmax: true", "lora_softmax: false")
    assert came_as["config"] != settings.read_text(encoding="utf-8")
    save(model({}), tmp_path / "ours" / "basis.safetensors", {"official": json.dumps(came_as)})
    _, written = convert(tmp_path / "ours", tmp_path / "back", Conversion("official", base))
    assert "lora_softmax: true" in written.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"to": "onnx"}, "--to is 'onnx'; use 'official' or 'lorweb'"),
        ({"to": "official", "dtype": "int8"}, "--dtype is 'int8'; use float16, bfloat16, float32"),
        ({"to": "lorweb", "dtype": "float16"}, "only with --to official"),
    ],
)
def test_what_cannot_be_asked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Conversion(base="tiny", **settings)
