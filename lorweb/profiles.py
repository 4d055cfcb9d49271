"""Parameters under a profile, without writing them anywhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lorweb.config import Params, load_params, parse_params


def load_profile(root: Path, profile: str | None) -> Params:
    """params.yaml of a project, with profiles/NAME.yaml over it if a profile is named.

    Raises:
        FileNotFoundError: no params.yaml, or no such profile.
        ValueError: keys or values that do not fit.
    """
    params = load_params(root / "params.yaml")
    if profile is None:
        return params
    path = root / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (root / "profiles").glob("*.yaml"))
        raise FileNotFoundError(f"no profile at {path}; there are {', '.join(known) or 'none'}")
    default = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    return parse_params(merge(default, yaml.safe_load(path.read_text(encoding="utf-8")) or {}), str(path))


def merge(default: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sections merge key by key; lists and single values are replaced whole. Neither argument is changed."""
    merged = dict(default)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
