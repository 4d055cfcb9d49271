"""YAML that other programs wrote, as a mapping, or one sentence that names the file."""

from pathlib import Path
from typing import Any

import yaml

from lorweb.config_errors import shortened


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8, not YAML, or not a mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}; the published weights are useless without their config.yaml")
    return parse_tree(read_utf8(path), str(path))


def read_utf8(path: Path) -> str:
    """Text as it is, line ends included. Raises ValueError where it is no UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def parse_tree(text: str, path: str) -> dict[str, Any]:
    """The mapping in YAML text, which messages call `path`. Raises ValueError."""
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, AttributeError, LookupError, TypeError) as error:
        # beside its own errors the parser lets those of odd scalars through (!!timestamp x, !!int "")
        why = shortened(" ".join(str(error).split()), 200)
        raise ValueError(f"{path} is not YAML: {why}; use another copy") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {shortened(tree)}, not a mapping; is it the config.yaml beside the weights?")
    return tree
