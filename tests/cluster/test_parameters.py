"""Parameters of a submission: those of a profile go into a folder of their own, and to the project's store."""

import shutil
import subprocess

import pytest
import yaml

from cluster.parameters import params_of
from tests.cluster.head import ROOT


def test_a_profile_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    default = subprocess.run(["git", "show", "HEAD:params.yaml"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "params.yaml").write_text(default)
    with pytest.raises(ValueError, match="--root"):
        params_of(tmp_path, "smoke")
    text = params_of(tmp_path / "smoke", "smoke")
    assert yaml.safe_load(text)["train"]["steps"] == 6 and params_of(tmp_path / "smoke", "smoke") == text
    assert (tmp_path / "params.yaml").read_text() == default == params_of(tmp_path)
    with pytest.raises(ValueError, match="smok"):
        params_of(tmp_path / "other", "smokx")
    assert not (tmp_path / "other").exists()


def test_a_profile_goes_to_the_store_of_the_project(tmp_path, monkeypatch):
    """Whose params.yaml need not be committed: only its storage differs."""
    default = subprocess.run(
        ["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    raw = yaml.safe_load(default)
    storage = {"uri": "s3://bucket/prefix", "options": {"endpoint_url": "http://minio:9000"}}
    shutil.copytree(ROOT / "profiles", tmp_path / "project/profiles")
    project = tmp_path / "project/params.yaml"
    project.write_text(yaml.safe_dump(raw | {"storage": storage}))
    monkeypatch.chdir(project.parent)
    monkeypatch.setattr("cluster.parameters.committed_default", lambda _revision: default)
    text = params_of(tmp_path / "smoke", "smoke")
    read = yaml.safe_load(text)
    assert read["storage"] == storage and read["train"]["steps"] == 6 and text.startswith("# profile: smoke\n")
    assert params_of(tmp_path / "smoke", "smoke") == text
    other = text.replace("s3://bucket/prefix", "s3://other/prefix")
    (tmp_path / "smoke/params.yaml").write_text(other)
    assert params_of(tmp_path / "smoke", "smoke") == other  # a folder may have a store of its own
    (tmp_path / "smoke/params.yaml").write_text(yaml.safe_dump(read | {"seed": raw["seed"] + 1}))
    with pytest.raises(ValueError, match="other parameters than the profile 'smoke'"):
        params_of(tmp_path / "smoke", "smoke")
    (tmp_path / "smoke/params.yaml").write_text("seed: [")
    with pytest.raises(ValueError, match="no YAML"):
        params_of(tmp_path / "smoke")
