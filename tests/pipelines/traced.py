"""A project of the real data stages with a model that says what it was trained on, as the train stage writes it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lorweb.data.manifest import Manifest, fingerprint, write_manifest
from lorweb.kontext.metadata import read_metadata, write_metadata
from pipelines import assemble
from pipelines import filter as filtering
from pipelines._rows import in_process
from tests.cli_cases import working_folder
from tests.model_tiny import save_model, save_parts
from tests.pipelines.projects import write_params

CHANGES = {
    "assemble": {
        "train_subjects": [],
        "test_subjects": 0.3,
        "val_subjects": 0.1,
        "min_pairs_per_task": 2,
        "inverse": ["colour/*"],
    }
}


def make_traced(generated: Path, folder: Path) -> Path:
    """A copy of a generated project with data/pairs, data/analogies, a stand-in for data/encoded, models/candidate, and
    b2.png, drawn by it.
    """
    from tests.cli_cases import IMAGES

    shutil.copytree(generated, folder)
    with pytest.MonkeyPatch.context() as patch:
        working_folder(folder, patch)
        write_params(folder, CHANGES)
        filtering.main(in_process)
        assemble.main()
        inputs = {name: fingerprint(Path("data") / name) for name in ("analogies", "pairs")}
        (folder / "data/encoded").mkdir()
        write_manifest(Path("data/encoded"), Manifest(0, inputs, {}, {}))
        model = save_model(save_parts(folder / "parts"), folder / "models" / "candidate")
        trained_on = {name: fingerprint(Path("data") / name) for name in ("analogies", "encoded")}
        metadata = read_metadata(model)
        write_metadata(model, replace(metadata, extra={**metadata.extra, "data": trained_on}))
        draw(IMAGES)
    return folder


def draw(images: tuple[str, ...]) -> None:
    """b2.png by models/candidate."""
    import typer

    from lorweb import cli

    words = ["apply", *images, "-o", "b2.png", "--model", "models/candidate"]
    typer.main.get_command(cli.app).main(words, prog_name="lorweb", standalone_mode=False)
