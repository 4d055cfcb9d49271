"""A temporary project: the committed parameters with a few changes, and data made by the real stages."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.profile import merge

ROOT = Path(__file__).parents[2]
POOL = {"actors": 2, "cpus": 0.25, "gpus": 0, "batch_size": 4}
SMALL: dict[str, Any] = {
    "collect": {
        "size": 64,
        "readers": [
            {"reader": "photos", "crops": 1},
            {"reader": "dicebear", "styles": ["thumbs"], "seeds": 5, "first_seed": 0},
        ],
        "pool": POOL,
    },
    "generate": {
        "editors": [{"editor": "embedded", "tasks": ["colour/hue-*", "geometry/mirror"], "pool": POOL}],
        "sources_per_task": 6,
    },
    "filter": {"pool": POOL},
    "assemble": {"test_per_task": 1, "val_per_task": 1},
    "encode": {"pool": POOL},
}


def write_params(folder: Path, changes: Mapping[str, Any] | None = None) -> None:
    """params.yaml of a small project, with `changes` on top."""
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    small = merge(merge(default, copy.deepcopy(SMALL)), changes or {})
    (folder / "params.yaml").write_text(yaml.safe_dump(small, sort_keys=False), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
