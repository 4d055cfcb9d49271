"""What a key means: the comment behind it in params.yaml; of a key that is not there, in a profile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.config_errors import TAGS

ROOT: Final = Path(__file__).parents[1]


def meanings() -> dict[str, str]:
    """Key of an option -> the words of the comment on its line."""
    found: dict[str, str] = {}
    for path in (ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))):
        text = path.read_text(encoding="utf-8")
        lines, taken, mine = text.splitlines(), set(), {}
        for key, line in _keys(yaml.compose(text), ""):
            first = line not in taken  # of several keys on a line, the comment belongs to the first
            taken.add(line)
            mine[key] = mine.get(key) or (_comment(lines[line]) if first else "")
        found = mine | found
    return found


def _keys(node: Any, key: str) -> Iterator[tuple[str, int]]:
    """(key, number of its line) of everything below a node, in the order of the file."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            below = f"{key}.{name.value}" if key else name.value
            yield below, name.start_mark.line
            yield from _keys(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _keys(entry, f"{key}{_kind(entry)}")


def _kind(entry: Any) -> str:
    pairs = entry.value if isinstance(entry, yaml.MappingNode) else []
    tag = next((value.value for name, value in pairs if name.value in TAGS), None)
    return f"[{tag}]" if tag else ""


def _comment(line: str) -> str:
    """What stands behind ` #`; texts of params.yaml hold none of those."""
    return line.split(" # ", 1)[1].strip() if " # " in line else ""
