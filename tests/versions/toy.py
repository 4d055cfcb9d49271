"""A DVC project of three quick stages, and DVC's own command line in this process."""

import os
import subprocess
from pathlib import Path

GATHER = """
import pathlib
pathlib.Path("data").mkdir(exist_ok=True)
pathlib.Path("data/source.bin").write_bytes(b"s" * 500)
open("runs.txt", "a").write("gather\\n")
"""
MAKE = """
import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
assert pathlib.Path("data/source.bin").read_bytes()
folder = pathlib.Path("data/pairs")
folder.mkdir(parents=True, exist_ok=True)
for i in range(params["make"]["shards"]):
    (folder / f"part-{i:05}.parquet").write_bytes(bytes([i, params["make"]["version"]]) * 500)
for place in ("metrics", "reports"):
    pathlib.Path(place).mkdir(exist_ok=True)
pathlib.Path("reports/make.html").write_text(str(params["make"]))
pathlib.Path("metrics/make.json").write_text(json.dumps({"kept": params["make"]["shards"]}))
open("runs.txt", "a").write("make\\n")
"""
USE = """
import pathlib
shards = sorted(pathlib.Path("data/pairs").glob("*"))
pathlib.Path("model.bin").write_bytes(b"".join(path.read_bytes() for path in shards))
open("runs.txt", "a").write("use\\n")
"""
PIPELINE = """
stages:
  gather:
    cmd: python gather.py
    deps: [gather.py]
    outs: [data/source.bin]
  make:
    cmd: python make.py
    deps: [make.py, data/source.bin]
    params: [make]
    outs: [data/pairs, reports/make.html]
    metrics: [{metrics/make.json: {cache: false}}]
  use:
    cmd: python use.py
    deps: [use.py, data/pairs]
    outs: [model.bin]
"""
PARAMS = "make:\n  shards: {shards}\n  version: {version}\n"


def git(folder: Path, *words: str) -> str:
    """Run git there; returns what it printed."""
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "advice.detachedHead=false")
    done = subprocess.run(["git", *author, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {words}: {done.stderr}"
    return done.stdout


def dvc(folder: Path, *words: str) -> None:
    """Run a dvc command there; fails the test if it fails."""
    from dvc.cli import main

    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main([*words, "--quiet"]) == 0, f"dvc {' '.join(words)}"
    finally:
        os.chdir(before)


def write_params(folder: Path, shards: int = 3, version: int = 1) -> None:
    (folder / "params.yaml").write_text(PARAMS.format(shards=shards, version=version), encoding="utf-8")


def make_toy(folder: Path) -> Path:
    """The project, reproduced and committed as v1."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    dvc(folder, "init")
    for name, text in {
        "gather.py": GATHER,
        "make.py": MAKE,
        "use.py": USE,
        "dvc.yaml": PIPELINE,
        ".gitignore": "/runs.txt\n.work/\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_params(folder)
    dvc(folder, "repro")
    save(folder, "v1")
    return folder


def save(folder: Path, tag: str) -> None:
    """Commit everything and name it."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", tag)
    git(folder, "tag", tag)


def ran(folder: Path) -> list[str]:
    """Stages whose commands ran, since the beginning."""
    path = folder / "runs.txt"
    return path.read_text(encoding="utf-8").split() if path.exists() else []
