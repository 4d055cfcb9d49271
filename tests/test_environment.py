"""A virtual environment is made anew where it was moved or copied with its project, and nowhere else."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


def asked(project: Path) -> str:
    """What `make setup` would do."""
    done = subprocess.run(["make", "-n", "setup"], cwd=project, env=bare(), capture_output=True, text=True, check=True)
    return done.stdout


def bare() -> dict[str, str]:
    """The environment of a person; a `make` above this test hands down its own settings."""
    return {
        k: v for k, v in os.environ.items() if k not in ("VENV", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose environment is ready."""
    folder = tmp_path / "project"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "setup.sh", "pyproject.toml"):
        shutil.copy(REPO / name, folder)
    (folder / ".venv" / ".ready").write_text(f"{folder / '.venv'}\n")
    return folder


def test_one_that_stands_where_it_was_made_is_taken_as_it_is(project):
    assert "setup.sh" not in asked(project)
    (project / "link").symlink_to(project)
    assert "setup.sh" not in asked(project / "link")
    (project / ".venv" / ".ready").write_text("")  # of before environments told their place
    assert "setup.sh" not in asked(project)


def test_one_that_was_moved_is_made_anew_and_says_so(project, tmp_path):
    moved = project.rename(tmp_path / "moved")
    assert "VENV=.venv ./setup.sh" in asked(moved)
    (moved / ".venv" / "of before").touch()
    script = (moved / "setup.sh").read_text()
    head, rest = script.split('[ -x "$VENV/bin/python" ] ||', 1)  # what follows installs
    assert '"$VENV/.ready"' in rest
    (moved / "setup.sh").write_text(head.replace("--clear", "--clear --without-pip"))
    done = subprocess.run(["bash", "setup.sh"], cwd=moved, env=bare(), capture_output=True, text=True, check=True)
    assert f"setup: .venv was made as {project / '.venv'}; making it anew" in done.stderr
    assert (moved / ".venv" / "bin" / "python").exists() and not (moved / ".venv" / "of before").exists()
