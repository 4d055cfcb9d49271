"""A small project whose first stages have run, made once."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines import collect, evaluate, generate
from pipelines._rows import in_process
from tests.pipelines.encoded_project import encode_project
from tests.pipelines.evaluated import make_project as make_evaluable
from tests.pipelines.projects import write_params
from tests.pipelines.train_project import LONG, make_project, run_train


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills in whichever test process needs it first; all of them read it, none writes there."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / ".made").touch()
    return folder


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
    return made_once(tmp_path_factory, "trained", lambda root: run_train(make_project(root, **LONG)))


@pytest.fixture(scope="session")
def undisturbed_pair(tmp_path_factory):
    """The same with two workers."""
    return made_once(tmp_path_factory, "pair", lambda root: run_train(make_project(root, workers=2, **LONG)))


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
