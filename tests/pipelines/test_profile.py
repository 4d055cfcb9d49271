"""Profiles: only overrides over the committed default, checked before anything is written."""

import subprocess

import pytest
import yaml

from lorweb.config import load_params
from pipelines import profile
from tests.pipelines.projects import ROOT

PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with the default parameters committed and the profiles beside them."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    if not text.startswith("# profile: default\n"):  # the checkout is on another profile
        text = profile.committed_default("HEAD")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    git("init", "-q")
    commit()
    return tmp_path


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True)


def commit():
    git("add", "params.yaml")
    git("commit", "-q", "-m", "state")


def select(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["profile", *arguments])
    profile.main()


def test_every_profile_fits_the_models_and_changes_something(repository, monkeypatch):
    assert {"smoke", "paper"} <= set(PROFILES)
    default = load_params()
    for name in PROFILES:
        select(monkeypatch, name)
        assert (repository / "params.yaml").read_text().startswith(f"# profile: {name}\n")
        assert load_params() != default
    select(monkeypatch, "default")
    assert load_params() == default


def test_merging_goes_by_key_and_replaces_lists():
    default = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert profile.merge(default, {"a": {"c": [9]}}) == {"a": {"b": 1, "c": [9]}, "d": 3}
    assert default == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_an_unknown_profile_names_those_there_are(repository, monkeypatch):
    with pytest.raises(SystemExit, match=r"unknown profile .papper.; did you mean .paper.. Known: default, paper"):
        select(monkeypatch, "papper")


def test_a_profile_that_does_not_fit_writes_nothing(repository, monkeypatch):
    (repository / "profiles").unlink()
    (repository / "profiles").mkdir()
    (repository / "profiles/wrong.yaml").write_text(yaml.safe_dump({"train": {"stpes": 3}}))
    before = (repository / "params.yaml").read_bytes()
    with pytest.raises(SystemExit, match="unknown key 'stpes' in train; did you mean 'steps'"):
        select(monkeypatch, "wrong")
    assert (repository / "params.yaml").read_bytes() == before


def test_a_commit_with_another_profile_asks_for_a_base(repository, monkeypatch):
    select(monkeypatch, "smoke")
    commit()
    with pytest.raises(SystemExit, match="holds another profile than 'default'; give --base REV"):
        select(monkeypatch, "paper")
    select(monkeypatch, "default", "--base", "HEAD~1")
    assert (repository / "params.yaml").read_text().startswith("# profile: default\n")
