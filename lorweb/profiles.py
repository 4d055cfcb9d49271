"""Parameters under a profile, without writing them anywhere.

A profile is a file in profiles/ that says only what differs from params.yaml, or, if it has the key `extends: NAME`,
from that other profile.
"""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.config import Params, load_params, parse_params
from lorweb.config_errors import unknown_name

EXTENDS: Final = "extends"


def load_profile(root: Path, profile: str | None) -> Params:
    """params.yaml of a project, with profiles/NAME.yaml over it if a profile is named.

    Raises:
        FileNotFoundError: no params.yaml, or no such profile.
        ValueError: keys or values that do not fit, or see `profile_layers`.
    """
    params = load_params(root / "params.yaml")
    if profile is None:
        return params
    layers = profile_layers(root / "profiles", profile)
    default = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    return parse_params(reduce(merge, layers, default), str(root / "profiles" / f"{profile}.yaml"))


def profile_layers(folder: Path, name: str) -> list[dict[str, Any]]:
    """What a profile changes: one tree for each file, in the order in which they are merged over the default.

    Raises:
        FileNotFoundError: no such profile, or one that is extended is missing; names the nearest.
        ValueError: a file is not YAML, or no mapping, or profiles extend each other in a circle.
    """
    layers: list[dict[str, Any]] = []
    chain = [name]
    while True:
        path = folder / f"{chain[-1]}.yaml"
        asked = f"{folder / chain[-2]}.yaml extends another profile: " if len(chain) > 1 else ""
        tree = _read(path, asked)
        below = tree.pop(EXTENDS, None)
        layers.insert(0, tree)
        if below is None:
            return layers
        if not isinstance(below, str):
            raise ValueError(f"{path}: extends is {below!r}; give the name of one profile")
        if below in chain:
            raise ValueError(f"profiles extend each other in a circle: {' -> '.join([*chain, below])}; break it")
        chain.append(below)


def _read(path: Path, asked: str) -> dict[str, Any]:
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        if not known:
            raise FileNotFoundError(f"{asked}no profile at {path}; run from the project root, where profiles/ lies")
        raise FileNotFoundError(f"{asked}no profile at {path}: {unknown_name('profile', path.stem, known)}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {type(tree).__name__}, not sections; write it as params.yaml is written")
    return tree


def merge(default: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sections merge key by key; lists and single values are replaced whole. Neither argument is changed."""
    merged = dict(default)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
