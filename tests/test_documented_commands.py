"""Every `lorweb` command that a page, a docstring or a help text shows: it is run, on a tiny random model."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

from lorweb import cli
from tests.kontext_tiny import drawn_image
from tests.model_tiny import save_model, save_parts

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[1]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), *sorted((REPO / "lorweb").glob("cli*.py"))]
SHOWN = re.compile(r"^ *(?:\"\"\".*)?(?:Example: |\$ )?(lorweb [a-z].*?)(?:\"\"\")?$", re.M)
TAKES_MODEL = ("apply", "bake", "mix")
# calibrate, registry and trace have tests of their own, on scored data, a registry and a project's data; demo serves
# until it is stopped
ONLY_PARSED = ("calibrate", "demo", "doctor", "registry", "trace")


def shown_commands() -> list[tuple[str, list[str]]]:
    """(page, words) in the order of the pages; prose about lorweb is told apart by its first word."""
    names = set(typer.main.get_command(cli.app).commands)
    found = []
    for page in PAGES:
        for match in SHOWN.finditer(page.read_text(encoding="utf-8")):
            words = shlex.split(match[1], comments=True)[1:] if "'" not in match[1].split("#")[0] else []
            if words and words[0] in names:
                found.append((page.name, words))
    return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with every file that the pages speak of, and the project's profiles."""
    monkeypatch.chdir(tmp_path)
    model = save_model(save_parts(tmp_path / "parts"), tmp_path / "models" / "candidate")
    for folder in ("photos", "triples/1", "triples/2"):
        (tmp_path / folder).mkdir(parents=True)
    more = [f"triples/{number}/{name}" for number in (1, 2) for name in ("a", "a2", "b")]
    for seed, name in enumerate(("a", "a2", "b", "b3", "c", "c2", "photos/1", "photos/2", *more)):
        drawn_image(seed, 40, 40).save(tmp_path / f"{name}.png")
    for name in ("params.yaml", "profiles"):
        source = REPO / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    run(["convert", str(model), "lorweb_model", "--to", "official"])
    run(["mix", "a.png", "a2.png", "b.png", "-o", "night.safetensors", "--model", str(model)])
    run(["apply", "a.png", "a2.png", "b.png", "-o", "b2.png", "--model", str(model)])
    return model


def options(command: str, model: Path) -> list[str]:
    """What stands for the registry and the data of a run, which this desk has not."""
    return (
        ["--model", str(model)] if command in TAKES_MODEL else ["--triples", "triples"] if command == "health" else []
    )


def run(words: list[str]) -> None:
    """A command in this process; what it raises fails the test."""
    typer.main.get_command(cli.app).main(words, prog_name="lorweb", standalone_mode=False)


def test_every_documented_command_runs_or_at_least_parses(desk, capsys):
    commands = shown_commands()
    assert {words[0] for _, words in commands} == {"convert", "health", "plan", "reproduce", *TAKES_MODEL, *ONLY_PARSED}
    for page, words in commands:
        try:
            if words[0] in ONLY_PARSED:
                typer.main.get_command(cli.app).make_context("lorweb", words)
            else:
                run([*words, *options(words[0], desk)])
        except Exception as error:
            raise AssertionError(f"{page}: lorweb {shlex.join(words)}") from error
        outs = [words[index + 1] for index, word in enumerate(words) if word == "-o"]
        assert words[0] in ONLY_PARSED or all(Path(out).exists() for out in outs), (page, words)
