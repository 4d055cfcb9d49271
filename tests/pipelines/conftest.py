"""A small project whose first stages have run, made once."""

import shutil

import pytest
import yaml

from pipelines import collect, evaluate, generate
from pipelines._rows import in_process
from tests.pipelines.encoded_project import encode_project
from tests.pipelines.evaluated import make_project as make_evaluable
from tests.pipelines.projects import write_params
from tests.pipelines.train_project import LONG, make_project, run_train


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A project folder with data/sources and data/candidates. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(folder)
        collect.main(in_process)
        generate.main(in_process)
    return folder


@pytest.fixture
def project(generated, tmp_path, monkeypatch):
    """A copy of it to work in, the journals included."""
    folder = tmp_path / "project"
    shutil.copytree(generated, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def encoded(generated, tmp_path_factory):
    """A project folder up to data/encoded, on a random base of real architecture. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("encoded") / "project"
    encode_project(generated, folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A project whose train stage ran to its end in one go."""
    root = make_project(tmp_path_factory.mktemp("whole"), **LONG)
    run_train(root)
    return root


@pytest.fixture(scope="session")
def undisturbed_pair(tmp_path_factory):
    """The same with two workers."""
    root = make_project(tmp_path_factory.mktemp("pair"), workers=2, **LONG)
    run_train(root)
    return root


@pytest.fixture(scope="session")
def evaluable(tmp_path_factory):
    """A project folder with all that the evaluate stage reads. Copy it before changing it."""
    root = tmp_path_factory.mktemp("evaluable")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_evaluable(root)
    return root


@pytest.fixture
def evaluated(evaluable, tmp_path, monkeypatch):
    """A copy of it to work in; the function sets keys of `evaluate`, in params.yaml, and runs the stage."""
    root = tmp_path / "project"
    shutil.copytree(evaluable, root)
    monkeypatch.chdir(root)

    def run(**changes):
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        params["evaluate"] |= changes
        (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        evaluate.main(in_process)

    return run
