"""The project as a stranger clones it, and the whole road on it."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.cluster.head import ROOT

PATIENCE = 900  # s
STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def environment(**more: str) -> dict[str, str]:
    """Of a command in a clone: this Python, and the clone's own code."""
    told = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    return {**told, "PATH": f"{Path(sys.executable).parent}:{told['PATH']}", **more}


def call(project: Path, *command: str, **more: str) -> str:
    """Run a command of the environment in the project; returns what it printed."""
    done = subprocess.run(
        command, cwd=project, env=environment(**more), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def clone(folder: Path, profile: str) -> Path:
    """A clone under a profile."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 100, "this test needs a git checkout"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    call(folder, "git", "init", "--quiet")
    call(folder, "git", "add", "--all")
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    call(folder, "git", *author, "commit", "--quiet", "--message", "clone")
    call(folder, "python", "-m", "pipelines.profile", profile)
    return folder


def outs(project: Path) -> dict[str, str]:
    """{path: sha256} of data and models. Not of promote's record: it looks at a registry, which has a history."""
    files = [path for folder in ("data", "models") for path in (project / folder).rglob("*") if path.is_file()]
    return {
        path.relative_to(project).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in (".gitignore", "promoted.json")
    }


def ran(output: str) -> list[str]:
    """Stages that a `dvc repro` ran, in order."""
    return [name for name in STAGES if f"Running stage '{name}'" in output]
