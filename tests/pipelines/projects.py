"""A temporary project: the committed parameters with a few changes, and data made by the real stages."""

import copy
import json
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
    "filter": {
        "scorers": [
            {"scorer": "embedded", "pool": POOL},
            {"scorer": "features", "name": "effnet", "encoder": "efficientnet-lite0+style", "pool": POOL},
        ]
    },
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


def write_icons(cache: Path) -> None:
    """Made-up icon sets in the icons.json format of the emoji packages: circles and squares in other colours."""
    circle, square = (
        "<circle cx='16' cy='16' r='14' fill='{}'/>",
        "<rect x='3' y='3' width='26' height='26' fill='{}'/>",
    )
    sets = {"fluent-flat": "red", "fluent-glossy": "orange", "noto": "green"}
    for name, colour in sets.items():
        shapes = {"ball": circle, "box": square} if name != "noto" else {"ball": circle, "crate": square}
        icons = {icon: {"body": body.format("navy" if icon == "crate" else colour)} for icon, body in shapes.items()}
        aliases = {"box": {"parent": "crate"}, "turned": {"parent": "crate", "rotate": 1}} if name == "noto" else {}
        if name == "fluent-flat":
            icons["only-flat"] = {"body": circle.format("black"), "width": 64}  # not square
        content = {"prefix": name, "icons": icons, "aliases": aliases, "width": 32, "height": 32}
        cache.mkdir(parents=True, exist_ok=True)
        (cache / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
