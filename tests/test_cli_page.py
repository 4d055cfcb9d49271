"""docs/cli.md says what the commands say."""

import pytest

from tests.cli_page import PAGE, commands, options_of, page_with, rendered, told


def test_the_page_is_made_from_the_commands():
    assert PAGE.read_text(encoding="utf-8") == page_with(rendered()), "run python -m tests.cli_page"


@pytest.mark.parametrize(
    ("words", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_and_option_is_in_it_with_an_example(words, command):
    page = PAGE.read_text(encoding="utf-8")
    part = page.partition(f"### lorweb {words}\n")[2].partition("\n### ")[0]
    assert part and all(
        f"`{name}`" in part or f"`{name}, " in part or f"{name}" in part for name in options_of(command)
    )
    text, examples = told(command)
    assert text and examples and all(example.startswith(f"lorweb {words}") for example in examples)
