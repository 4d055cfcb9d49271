"""A virtual environment is made anew where it was moved or copied with its project, and nowhere else."""

import os
import shutil
import subprocess
import sys
from itertools import pairwise
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


@pytest.mark.parametrize(
    ("chosen", "pinned"),
    [
        ({"CPU": "1"}, ["py{}-cpu.txt"]),
        ({"CPU": "0"}, ["py{}-cpu.txt", "cuda.txt"]),
        ({"CPU": "0", "TORCH_BACKEND": "cu128"}, ["py{}-cpu.txt"]),
    ],
)
def test_machines_with_and_without_a_gpu_get_the_same_versions(project, chosen, pinned):
    shutil.copytree(REPO / "constraints", project / "constraints")
    (project / ".venv" / ".ready").unlink()
    uv = project / ".venv" / "bin" / "uv"
    uv.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\n')
    python = project / ".venv" / "bin" / "python"
    python.symlink_to(sys.executable)
    uv.chmod(0o755)
    subprocess.run(["bash", "setup.sh"], cwd=project, env=bare() | chosen, capture_output=True, text=True, check=True)
    first = (project / ".venv" / "bin" / "asked").read_text().splitlines()[0].split()
    files = [word for before, word in pairwise(first) if before == "--constraint"]
    assert files == [f"constraints/{name.format(f'3{sys.version_info[1]}')}" for name in pinned]
    assert all((project / name).is_file() for name in files) and ("--torch-backend" in first) == (
        chosen != {"CPU": "0"}
    )
