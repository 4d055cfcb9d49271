"""A project up to data/encoded, on a random base of real architecture."""

import shutil
from pathlib import Path

import pytest

from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.shards import read_table, write_rows
from lorweb.records import LOOK, PAIR
from pipelines import assemble, encode
from pipelines._rows import in_process
from tests.kontext_tiny import save_tiny_kontext
from tests.pipelines.projects import write_params


def encode_project(generated: Path, folder: Path) -> None:
    """Copy a generated project to `folder` and run what comes up to data/encoded there."""
    shutil.copytree(generated, folder)
    base = save_tiny_kontext(folder / "base")
    rows = read_table(folder / "data/candidates", PAIR).to_pylist()
    tasks = sorted({row["task"] for row in rows})[:2]
    rows = [row for row in rows if row["task"] in tasks]
    write_rows(rows, folder / "data/pairs", PAIR)
    looks = [
        {"id": row["id"], "before_hash": row["id"], "after_hash": row["id"], "content": b""} for row in rows
    ]  # 16 hex digits
    write_rows(looks, folder / "data/pairs/look", LOOK)
    shutil.copy(folder / "data/candidates/tasks.json", folder / "data/pairs")
    write_manifest(folder / "data/pairs", Manifest(len(rows), {}, {}, {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(folder, changes(base))
        assemble.main()
        encode.main(in_process)


def changes(base, **pool):
    section = {"base": str(base), "quadrant": 32, "pool": pool}
    return {"encode": section, "assemble": {"train_subjects": [], "test_subjects": 0.4, "val_subjects": 0.2}}


def copy_with(encoded, tmp_path, **keys):
    """A copy of the project, with other parameters of the stage."""
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    sections = changes(encoded / "base")
    sections["encode"] |= keys
    write_params(folder, sections)
    return folder
