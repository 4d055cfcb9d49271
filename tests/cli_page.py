"""The part of docs/cli.md that is made from the commands themselves: `python -m tests.cli_page` writes it anew."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from lorweb import cli

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
BEGIN, END = "<!-- commands -->", "<!-- /commands -->"
OWN = ("help", "install_completion", "show_completion")  # the same for every typer command


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(words, command) of every command, those of groups included, in the order of the help."""
    group = group or typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def rendered() -> str:
    """The table of commands, and for each command its options and examples."""
    rows = ["| command | does |", "|---|---|"]
    parts = []
    for words, command in commands():
        text, examples = told(command)
        rows.append(
            f"| [`lorweb {words}`](#lorweb-{words.replace(' ', '-')}) | {cell(text.split('. ')[0].rstrip('.'))} |"
        )
        parts.append(section(words, command, text, examples))
    return "\n".join([*rows, "", *parts])


def told(command: Any) -> tuple[str, list[str]]:
    """(what it does, its examples) from the help text."""
    lines = inspect.cleandoc(command.help or "").replace("Example:", "\nExample:").splitlines()
    examples = [line.removeprefix("Example:").strip() for line in lines if line.startswith("Example:")]
    text = " ".join(line.strip() for line in lines if line.strip() and not line.startswith("Example:"))
    return text, examples


def section(words: str, command: Any, text: str, examples: list[str]) -> str:
    """One command."""
    shown = [f"### lorweb {words}", "", text, "", "```sh", *examples, "```", ""]
    rows = [row(parameter) for parameter in command.params if parameter.name not in OWN]
    return "\n".join([*shown, "| option | says | default |", "|---|---|---|", *rows, ""])


def row(parameter: Any) -> str:
    """One line of the table of options."""
    argument = parameter.param_type_name == "argument"
    name = (parameter.metavar or parameter.name).upper() if argument else ", ".join(parameter.opts)
    value = getattr(parameter.default, "value", parameter.default)
    shown = "required" if parameter.required else "" if value is None or value is False else cell(str(value))
    return f"| `{name}` | {cell(getattr(parameter, 'help', '') or '')}{choices(parameter)} | {shown} |"


def choices(parameter: Any) -> str:
    """The values that an enumerated option takes."""
    described = getattr(parameter, "type_descriptor", None) or getattr(parameter, "type", None)
    known = [f"`{getattr(value, 'value', value)}`" for value in getattr(described, "choices", None) or ()]
    return f" One of {', '.join(known)}." if known else ""


def cell(text: str) -> str:
    """Text that stays inside its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def page_with(commands_part: str) -> str:
    """The page with another generated part."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{PAGE} has lost its marks {BEGIN} and {END}"
    return f"{before}{BEGIN}\n{commands_part}{END}{after}"


def options_of(command: Any) -> set[str]:
    """The long names of its options."""
    return {opt for p in command.params if p.name not in OWN for opt in p.opts if re.fullmatch(r"--[a-z0-9-]+", opt)}


if __name__ == "__main__":
    PAGE.write_text(page_with(rendered()), encoding="utf-8")
