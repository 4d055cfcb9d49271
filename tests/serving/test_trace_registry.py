"""Traces that end at a version of a real registry, and pictures that name theirs."""

import json
import shutil
from pathlib import Path

import pytest

from lorweb import commands
from lorweb.data.manifest import file_sha256
from lorweb.provenance import model_facts, png_with_facts
from lorweb.serving.artifacts import Submission, content_hash
from lorweb.serving.registry import Registry
from lorweb.trace import Places, trace
from tests.kontext_tiny import drawn_image
from tests.model_tiny import save_model

TAGS = {
    "lineage_key": "key-1",
    "git_commit": "abc",
    "dvc_outs": json.dumps({"data/pairs": "m.dir"}),
    "ray_job_id": "",
    "licences": '{"MIT": 3}',
}


@pytest.mark.slow
def test_a_version_is_found_by_hash_number_alias_and_uri_with_its_lineage(root, model, monkeypatch):
    version = Registry("lorweb", root).submit(Submission(model, {}, TAGS))
    monkeypatch.chdir(root)
    places = Places(Path(), Path("data"), "lorweb", None)
    facts = model_facts("models:/lorweb@candidate", model / "basis.safetensors")
    assert facts["model_version"] == "models:/lorweb/1" and facts["lineage_key"] == "key-1"
    assert facts["content_sha256"] == content_hash(model)
    Path("b2.png").write_bytes(png_with_facts(drawn_image(1), facts))
    for asked in ("b2.png", "1", "candidate", "models:/lorweb@candidate", "models:/lorweb/1"):
        told = trace(asked, places, verify=False)
        assert told["model"]["version"] == {"uri": "models:/lorweb/1", "aliases": ["candidate"]}, asked
        assert told["model"]["content_sha256"] == version.content
        assert told["lineage"]["git_commit"] == "abc" and told["lineage"]["mlflow_run_id"] == version.run_id
        assert told["lineage"]["licences"] == {"MIT": 3}
        assert told["lineage"]["dvc_outs"] == {"data/pairs": "m.dir"} and "ray_job_id" not in told["lineage"]
        assert told["missing"] == [f"{told['model']['folder']} does not say what data it was trained on"]


@pytest.mark.slow
def test_a_picture_names_the_version_of_its_bytes_although_the_alias_has_moved(root, model, parts, monkeypatch):
    monkeypatch.chdir(root)
    registry = Registry("lorweb", root)
    registry.promote(registry.submit(Submission(model, {}, TAGS)))
    assert commands.fixed_model("champion") == "models:/lorweb/1" == commands.fixed_model("models:/lorweb/1")
    registry.promote(
        registry.submit(Submission(save_model(parts, root / "other", seed=5), {}, {"lineage_key": "key-2"}))
    )
    facts = model_facts("models:/lorweb@champion", model / "basis.safetensors")
    assert (facts["model_version"], facts["lineage_key"]) == ("models:/lorweb/1", "key-1")
    assert commands.fixed_model("champion") == "models:/lorweb/2"
    assert commands.fixed_model("other") == "other"
    with pytest.raises(ValueError, match=r"models:/lorweb@nobody cannot be had \(.*; see `lorweb registry list`"):
        commands.fixed_model("models:/lorweb@nobody")


def test_a_picture_of_a_model_that_is_nowhere_is_told_so(root, monkeypatch):
    monkeypatch.chdir(root)
    Path("b2.png").write_bytes(png_with_facts(drawn_image(1), {"basis_sha256": "0" * 64, "model": "models/gone"}))
    told = trace("b2.png", Places(Path(), Path("data"), "lorweb", None), verify=False)
    assert told["model"] is None and told["sources"] is None
    assert told["missing"] == [
        f"no model with the basis {'0' * 64} below models or in the registry; give its folder with --model"
    ]


@pytest.mark.slow
def test_of_versions_with_one_basis_the_recorded_one_is_named_or_all_are(root, model, monkeypatch):
    monkeypatch.chdir(root)
    registry = Registry("lorweb", root)
    for number in (1, 2, 3):
        copy = root / f"copy{number}"
        shutil.copytree(model, copy)
        metadata = json.loads((copy / "metadata.json").read_text())
        metadata["extra"] = {"of": number}
        (copy / "metadata.json").write_text(json.dumps(metadata))
        registry.submit(Submission(copy, {}, {"git_commit": f"commit-{number}"}))
    shutil.copytree(root / "copy3", root / "models" / "candidate")
    places = Places(Path(), Path("data"), "lorweb", None)

    def told(**facts):
        basis = {"basis_sha256": file_sha256(model / "basis.safetensors")}
        Path("b2.png").write_bytes(png_with_facts(drawn_image(1), basis | facts))
        found = trace("b2.png", places, verify=False)
        return found["model"]["version"]["uri"], found["lineage"]["git_commit"], found["notes"]

    assert told(model="models:/lorweb@champion", model_version="models:/lorweb/2") == (
        "models:/lorweb/2", "commit-2", [],
    )  # fmt: skip
    assert told(content_sha256=content_hash(root / "copy1")) == ("models:/lorweb/1", "commit-1", [])
    uri, commit, (note,) = told()
    assert (uri, commit) == ("models:/lorweb/3", "commit-3")
    assert note.startswith("versions 1, 2, 3 of lorweb have this basis, and nothing says which of them it was")


@pytest.mark.slow
def test_a_picture_names_the_version_that_took_the_place_of_a_damaged_one(root, model, monkeypatch):
    monkeypatch.chdir(root)
    registry = Registry("lorweb", root)
    first = registry.submit(Submission(model, {}, {}))
    (registry.folder(first) / "basis.safetensors").write_bytes(b"other")
    second = registry.submit(Submission(model, {}, TAGS))
    assert second.number == 2 and second.content == first.content
    for alias in ("candidate", "gone since"):
        facts = model_facts(f"models:/lorweb@{alias}", model / "basis.safetensors")
        assert (facts["model_version"], facts["lineage_key"]) == ("models:/lorweb/2", "key-1"), alias
