"""The toy project, made once; each test works on a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.versions.toy import make_toy


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy") / "made")


@pytest.fixture
def toy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working folder."""
    folder = tmp_path / "one"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`python -m pipelines.verify` with these options in the working folder: exit code and what it printed."""
    from pipelines import verify as command

    def call(*options: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["verify", *options])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return call
