"""A base folder is checked before it is loaded, and known by its content."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from lorweb.kontext.files import base_revision, check_base_folder


def test_revision_names_the_content_not_the_place(base_folder: Path, copy: Path) -> None:
    revision = base_revision(base_folder)
    assert len(revision) == 16 and base_revision(copy) == revision
    (copy / "README.md").write_text("words")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "x.json").write_text("{}")
    assert base_revision(copy) == revision
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert base_revision(copy) != revision


def test_in_a_hub_cache_the_blobs_name_stands_for_its_bytes(base_folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "x", tmp_path / "blobs"
    shutil.copytree(base_folder, snapshot)
    blobs.mkdir()
    weights = snapshot / "transformer" / "diffusion_pytorch_model.safetensors"
    blob = blobs / hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(blob)
    weights.symlink_to(blob)
    assert base_revision(snapshot) == base_revision(base_folder)
    blob.write_bytes(b"never read")
    assert base_revision(snapshot) == base_revision(base_folder)


def test_an_empty_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no weights"):
        base_revision(tmp_path)


def test_a_missing_part_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "text_encoder_2")
    with pytest.raises(FileNotFoundError, match="no files in text_encoder_2/"):
        check_base_folder(copy)


def test_a_missing_index_or_another_pipeline_is_named(copy: Path, tmp_path: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(ValueError, match="holds a FluxPipeline, not a FluxKontextPipeline"):
        check_base_folder(copy)
    (copy / "model_index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model_index\.json"):
        check_base_folder(copy)


def test_truncated_weights_are_named_before_anything_loads(copy: Path) -> None:
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"vae/diffusion_pytorch_model\.safetensors is damaged or truncated"):
        check_base_folder(copy)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"vae has no \.safetensors file"):
        check_base_folder(copy)


def test_a_missing_shard_is_named(copy: Path) -> None:
    part = copy / "transformer"
    (part / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"w": "model-00002-of-2.safetensors"}})
    )
    with pytest.raises(FileNotFoundError, match=r"lacks model-00002-of-2\.safetensors"):
        check_base_folder(copy)
