"""The image, as far as it can be held to without building it."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster/Dockerfile"
PINS = ("constraints/py312-cpu.txt", "constraints/cuda.txt")


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """(instruction, its arguments), lines joined, comments gone."""
    lines = "\n".join(line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    found = [line.split(" ", 1) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    assert len(found) > 8
    return [(name, rest) for name, rest in found]


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("hadolint")
    return subprocess.run([tool, "--no-color", path], capture_output=True, text=True, check=False)


def test_the_linter_has_nothing_to_say(tmp_path: Path) -> None:
    told = lint(FILE)
    assert told.returncode == 0, told.stdout
    worse = tmp_path / "Dockerfile"
    worse.write_text(FILE.read_text(encoding="utf-8").replace("python:3.12.12-slim-bookworm", "python:latest"))
    assert "DL3007" in lint(worse).stdout


def test_it_is_pinned_and_runs_as_nobody_special(steps: list[tuple[str, str]]) -> None:
    bases = [rest for name, rest in steps if name == "FROM"]
    assert bases and all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)
    users = [rest for name, rest in steps if name == "USER"]
    assert users[-1] == "1000" and "--uid 1000 ray" in FILE.read_text(encoding="utf-8")
    assert [rest for name, rest in steps if name == "ARG"] == ["DEVICE=cuda"]


def test_packages_come_before_code(steps: list[tuple[str, str]]) -> None:
    order = [f"{name} {rest}" for name, rest in steps]
    packages = next(i for i, step in enumerate(order) if "uv pip install" in step and "--requirements" in step)
    code = next(i for i, step in enumerate(order) if step.startswith("COPY") and step.endswith(" . ."))
    before = [step for step in order[:packages] if step.startswith("COPY")]
    assert packages < code and before and not any("lorweb " in step or step.endswith(". .") for step in before)


def sources(steps: list[tuple[str, str]]) -> list[str]:
    return [word for name, rest in steps if name == "COPY" for word in rest.split()[:-1] if not word.startswith("--")]


def test_what_is_copied_exists_and_is_code_alone(steps: list[tuple[str, str]]) -> None:
    copied = sources(steps)
    assert len(copied) >= 4 and all((ROOT / path).exists() for path in copied)
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
    ]
    context = {Path(path) for path in exclude_paths(str(ROOT), patterns) if (ROOT / path).is_file()}
    tops = {path.parts[0] for path in context}
    ours = {"lorweb", "pipelines", "cluster", "profiles", "constraints"}
    files = {"pyproject.toml", "README.md", "LICENSE", "dvc.yaml", "params.yaml", ".dockerignore"}
    assert ours <= tops <= ours | files
    assert {"pyproject.toml", "dvc.yaml", "params.yaml"} <= tops, "a job reads these"
    assert all(
        path in context for path in map(Path, (*PINS, "cluster/submit.py", "lorweb/tiny/kontext/model_index.json"))
    )
    assert not [path for path in context if path.suffix == ".pyc" or path.name == ".env"]
    assert sum((ROOT / path).stat().st_size for path in context) < 80 * 2**20


def installed(steps: list[tuple[str, str]]) -> list[str]:
    """The words of the command that installs the packages."""
    line = next(rest for name, rest in steps if name == "RUN" and "--requirements" in rest)
    return shlex.split(line[line.index("uv pip install") :])


def extras(words: list[str]) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == "--extra"]


def pins() -> dict[str, str]:
    lines = [line for file in PINS for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    found = dict(line.strip().split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): value for name, value in found.items()}


def test_every_package_is_pinned(steps: list[tuple[str, str]]) -> None:
    """Direct requirements from pyproject.toml, and theirs from what is installed here."""
    words, pinned = installed(steps), pins()
    assert [words[i + 1] for i, word in enumerate(words) if word == "--constraint"] == list(PINS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = extras(words)
    assert {"cluster", "s3", "quant"} <= set(asked) <= set(project["optional-dependencies"])
    todo = [Requirement(line) for line in project["dependencies"]]
    todo += [Requirement(line) for extra in asked for line in project["optional-dependencies"][extra]]
    seen: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} has no pin"
        assert requirement.specifier.contains(pinned[name].split("+")[0], prereleases=True), (
            f"{requirement}: {pinned[name]}"
        )
        if name not in seen and name not in ("torchao", "bitsandbytes"):  # these lie beside the environment
            seen.add(name)
            surroundings = [{"extra": extra} for extra in ("", *requirement.extras)]
            below = map(Requirement, distribution(name).requires or [])
            todo += [r for r in below if r.marker is None or any(r.marker.evaluate(s) for s in surroundings)]
    assert len(seen) > 120


@pytest.mark.slow
def test_the_install_command_is_one_that_uv_takes_and_this_environment_satisfies(steps: list[tuple[str, str]]) -> None:
    """Without network: what would be installed is installed, at the versions of the lock."""
    words = installed(steps)
    own = f"constraints/py{sys.version_info[0]}{sys.version_info[1]}-cpu.txt"
    for extra in ("quant", "bitsandbytes"):  # these lie beside the environment (setup.sh)
        at = words.index(extra)
        del words[at - 1 : at + 1]
    words = [own if word == PINS[0] else sys.executable if word == "/opt/venv/bin/python" else word for word in words]
    words = [word for word in words if word != "--no-cache"]
    uv = Path(sys.executable).with_name("uv")
    environment = {**os.environ, "UV_OFFLINE": "1"}

    def dry(*more: str) -> str:
        command = [uv, *words[1:], "--dry-run", *more]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "Would make no changes" in dry()
    assert f"{version('ray')}" in (ROOT / own).read_text(encoding="utf-8")
    assert "No solution found" in dry("ray==1.0.0") or "unsatisfiable" in dry("ray==1.0.0")


def test_it_holds_no_secret() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert not re.search(r"(?i)(password|token|secret|_key)\s*=", text)
    assert "RAY_AUTH" not in text, "the token comes from the cluster"
