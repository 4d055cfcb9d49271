"""How commands end: exit codes, one sentence, one JSON document, no partial file; each by the real harm."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from lorweb import __version__, cli
from tests.cli_cases import IMAGES, run
from tests.harm import full_disk
from tests.kontext_tiny import drawn_image

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[1]
MODULE = [sys.executable, "-m", "lorweb"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPO)}


def commands() -> list[str]:
    """Every command of the app, those of groups by two words."""
    top = typer.main.get_command(cli.app).commands
    return sorted(
        name if not hasattr(command, "commands") else f"{name} {inner}"
        for name, command in top.items()
        for inner in getattr(command, "commands", [""])
    )


def speaks_json(command: str) -> bool:
    found = typer.main.get_command(cli.app)
    for word in command.split():
        found = found.commands[word]
    return any("--json" in parameter.opts for parameter in found.params)


def test_every_command_is_known_here():
    assert {"apply", "reproduce", "trace", "bake", "mix", "convert", "plan", "doctor", "demo"} <= set(commands())
    assert [c for c in commands() if not speaks_json(c) and not c.startswith(("demo", "registry"))] == []


@pytest.mark.parametrize("command", commands())
def test_wrong_usage_is_2_and_names_the_option(capsys, command):
    code, out, err = run(capsys, *command.split(), "--no-such-option")
    assert code == 2 and "No such option: --no-such-option" in err and out == "" and "Traceback" not in err
    code, out, _ = run(capsys, *command.split(), "--no-such-option", "--json")
    assert code == 2 and "No such option: --no-such-option" in json.loads(out)["error"]


FAILURES = [
    ("apply", *IMAGES, "-o", "o.png", "--model", "gone"),
    ("reproduce", "gone.png", *IMAGES),
    ("mix", *IMAGES, "-o", "m.safetensors", "--model", "gone"),
    ("bake", *IMAGES, "-o", "l.safetensors", "--model", "gone"),
    ("convert", "gone", "out", "--to", "official"),
    ("plan",),
    ("doctor",),
    ("calibrate", "gone.json"),
    ("health", "gone", "-o", "out"),
    ("trace", "gone.png"),
]


@pytest.mark.parametrize("words", FAILURES, ids=lambda words: words[0])
def test_a_failure_is_1_one_sentence_and_one_document(folder, capsys, words):
    before = sorted(folder.iterdir())
    code, out, err = run(capsys, *words)
    assert code == 1 and out == "" and err.startswith("lorweb: ") and len(err.splitlines()) == 1
    code, out, again = run(capsys, *words, "--json")
    assert code == 1 and again == err and json.loads(out) == {"error": err.removeprefix("lorweb: ").rstrip("\n")}
    assert sorted(folder.iterdir()) == before


def test_a_full_disk_is_said_and_leaves_nothing(folder, model, capsys):
    before = sorted(folder.iterdir())
    with full_disk(100):
        code, _, err = run(capsys, "apply", *IMAGES, "-o", "o.png", "--model", str(model))
    assert code == 1 and err.startswith("lorweb: the disk is full") and "write elsewhere" in err
    with full_disk(100):
        code, _, err = run(capsys, "mix", *IMAGES, "-o", "m.safetensors", "--model", str(model))
    assert code == 1 and "m.safetensors" in err and "Traceback" not in err
    assert sorted(folder.iterdir()) == before


def test_an_output_that_cannot_be_made_is_said(folder, model, capsys):
    code, _, err = run(capsys, "apply", *IMAGES, "-o", "a.png/o.png", "--model", str(model))
    assert code == 1 and err == "lorweb: a.png is a file, not a folder; choose another place\n"
    code, _, err = run(capsys, "mix", *IMAGES, "-o", "/proc/no/m.safetensors", "--model", str(model))
    assert code == 1 and "/proc" in err and "Traceback" not in err


def test_stdout_that_takes_nothing_is_a_failure(folder):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MODULE, "plan", "--flux", "--json"], check=False, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
    assert done.returncode == 1 and done.stderr.startswith(b"lorweb: the disk is full")
    assert b"Exception ignored" not in done.stderr


def test_a_reader_that_has_enough_gets_no_traceback(folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*MODULE, "plan", "--flux", "--json"], check=False, stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def heard() -> None:
    """Jobs in the background of a shell ignore Ctrl-C, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_130_and_leaves_what_was_finished(folder, model):
    (folder / "many").mkdir()
    for seed in range(24):
        drawn_image(seed, 40, 40).save(folder / "many" / f"{seed:02}.png")
    words = ["apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model), "--steps", "80"]
    process = subprocess.Popen(
        [*MODULE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        preexec_fn=heard,  # noqa: PLW1509  no threads here
    )
    deadline = time.monotonic() + 300
    while not list(folder.glob("out/*.png")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines()[-1].startswith(b"lorweb: stopped by Ctrl-C")
    assert b"Traceback" not in err
    done = list((folder / "out").iterdir())
    assert 0 < len(done) < 24 and all(path.suffix == ".png" and path.name[0] != "." for path in done)


@pytest.mark.parametrize("words", [MODULE, [sys.executable, "-c", "from lorweb.cli import main; main()"]])
def test_the_version_from_anywhere(folder, words):
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout == f"lorweb {__version__}\n"


def test_without_a_command_the_help_is_shown(capsys):
    code, out, err = run(capsys)
    assert code == 2 and "Usage: lorweb" in out + err and "reproduce" in out + err


def test_progress_is_for_terminals(folder, model):
    """On stderr, where it is a terminal; stdout has the outputs and nothing else."""
    (folder / "many").mkdir()
    for seed in range(3):
        drawn_image(seed, 40, 40).save(folder / "many" / f"{seed}.png")
    words = [*MODULE, "apply", "a.png", "a2.png", "many", "-o", "out", "--model", str(model)]
    own, terminal = pty.openpty()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=terminal, env=ENVIRONMENT)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while chunk := os.read(own, 4096):
            shown += chunk
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.split() == [b"out/0.png", b"out/1.png", b"out/2.png"]
    assert b"load the model" in shown and b"100%" in shown
    plain = subprocess.run(words, capture_output=True, check=True, env=ENVIRONMENT, timeout=500)
    assert plain.stdout == out and plain.stderr == b""
