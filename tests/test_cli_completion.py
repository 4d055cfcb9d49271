"""Shell completion: what each shell is answered, and a real bash that has the script and a TAB key."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[1]
BASH, FISH = shutil.which("bash"), shutil.which("fish")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in it and a `lorweb` on its PATH, as an installation would put it there."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "models" / "mine").mkdir(parents=True)
    (folder / "models" / "mine" / "basis.safetensors").touch()
    (folder / "profiles").mkdir()
    (folder / "profiles" / "paper.yaml").touch()
    script = folder / "bin" / "lorweb"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lorweb "$@"\n')
    script.chmod(0o755)
    return folder


def environment(desk: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO), "PATH": f"{desk / 'bin'}:{os.environ['PATH']}", "TERM": "dumb"}


def answer(desk: Path, shell: str, line: str) -> list[str]:
    """What the command tells a shell at the end of a line, by the protocol of that shell's script."""
    words = line.split(" ")
    asked = {"_LORWEB_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        ["lorweb"], cwd=desk, env={**environment(desk), **asked}, capture_output=True, text=True, check=True
    )
    if shell == "zsh":
        return re.findall(r'"([^"]*)"(?::"[^"]*")?', done.stdout)
    return [row.split("\t")[0] for row in done.stdout.splitlines()]


LINES = [
    ("lorweb rep", {"reproduce"}),
    ("lorweb registry ro", {"rollback"}),
    ("lorweb apply --off", {"--offload"}),
    ("lorweb apply --offload s", {"sequential"}),
    ("lorweb bake --format ", {"diffusers", "comfyui"}),
    ("lorweb bake --dtype b", {"bfloat16"}),
    ("lorweb convert --to ", {"official", "lorweb"}),
    ("lorweb apply --model c", {"champion", "candidate"}),
    ("lorweb apply --model m", {"models/mine"}),
    ("lorweb trace p", {"previous"}),
    ("lorweb plan --profile p", {"paper"}),
]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_told_commands_options_aliases_and_choices(desk, shell):
    for line, expected in LINES:
        assert set(answer(desk, shell, line)) == expected, line


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_uris_are_completed_where_the_shell_keeps_them_whole(desk, shell):
    uris = {value.replace("\\", "") for value in answer(desk, shell, "lorweb apply --model models:")}
    assert uris == {f"models:/lorweb@{alias}" for alias in ("champion", "candidate", "previous")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_names_the_command(desk, shell):
    done = subprocess.run(
        ["lorweb"],
        env={**environment(desk), "_LORWEB_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lorweb" in done.stdout and f"_LORWEB_COMPLETE=complete_{shell}" in done.stdout


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_a_real_bash_completes_on_tab(desk):
    """The script is taken over as `lorweb --install-completion` does, and keys are typed into a terminal."""
    done = subprocess.run(
        ["lorweb"], env={**environment(desk), "_LORWEB_COMPLETE": "source_bash"}, capture_output=True, check=True
    )
    (desk / "rc").write_bytes(b"PS1='READY '\nset +o history\n" + done.stdout)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(desk)
        os.execvpe(str(BASH), ["bash", "--noprofile", "--rcfile", "rc", "-i"], environment(desk))
    try:
        told(terminal, "READY ")
        for keys, shown in (
            ("lorweb repr\t", "lorweb reproduce "),
            ("lorweb apply --offl\tseq\t", "lorweb apply --offload sequential "),
            ("lorweb apply --model cha\t", "lorweb apply --model champion "),
            ("lorweb apply --model mod\t", "lorweb apply --model models/mine"),
        ):
            os.write(terminal, keys.encode())
            told(terminal, shown)
            os.write(terminal, b"\x15\r")  # drop the line
            told(terminal, "READY ")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


@pytest.mark.skipif(FISH is None, reason="fish is not installed: apt-get install fish")
def test_a_real_fish_completes(desk):
    source = subprocess.run(
        ["lorweb"], env={**environment(desk), "_LORWEB_COMPLETE": "source_fish"}, capture_output=True, check=True
    )
    (desk / "lorweb.fish").write_bytes(source.stdout)
    for line, expected in LINES:
        words = [str(FISH), "--no-config", "-c", f"source lorweb.fish; complete -C '{line}'"]
        done = subprocess.run(words, cwd=desk, env=environment(desk), capture_output=True, text=True, check=True)
        assert {row.split("\t")[0] for row in done.stdout.splitlines()} == expected, line


def told(terminal: int, expected: str, patience: float = 60.0) -> None:
    """Read the terminal until it shows a text; AssertionError with what it showed instead."""
    seen, deadline = "", time.monotonic() + patience
    while expected not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{expected!r} never came; the terminal shows {seen!r}"
        seen += os.read(terminal, 4096).decode(errors="replace").replace("\a", "")
