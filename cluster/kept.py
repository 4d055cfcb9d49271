"""In a folder that nodes share: which job made the outs that lie there, and whether they are still as it left them."""

import hashlib
import json
from pathlib import Path

from cluster.errand import outs, stand_for
from pipelines._code import hash_of
from pipelines._stage import WORK, write_text


def keep(root: Path, stage: str, name: str) -> None:
    """Note below `root` that job `name` has made the stage's outs as they are now."""
    write_text(_note(root, stage), json.dumps({"job": name, "outs": _hash(root, stage)}) + "\n")


def stands(root: Path, stage: str, name: str) -> bool:
    """Whether the stage's outs below `root` are what job `name` made: nobody has replaced, changed or removed them."""
    try:
        noted = json.loads(_note(root, stage).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # no note, or half of one: made again
        return False
    return bool(noted == {"job": name, "outs": _hash(root, stage)})


def _note(root: Path, stage: str) -> Path:
    return root / WORK / "jobs" / f"{stage}.json"


def _hash(root: Path, stage: str) -> str:
    """Of the manifests, which name contents, and of every file's name and size: data are not read through again."""
    made = outs(stage)
    files = {path for out in made for path in [root / out, *(root / out).rglob("*")] if path.is_file()}
    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in files}
    facts = [hash_of(stand_for(root, made), root), sorted(sizes.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
