"""The files of a registered model: into MLflow as models from code, and back as a local folder."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lorweb.serving.tracking import open_client

WEIGHTS: Final = "basis.safetensors"
# not lorweb itself: a package of that name on an index would not be this one
REQUIREMENTS: Final = ("torch", "diffusers", "transformers", "peft", "safetensors", "pillow", "pandas")


@dataclass(frozen=True)
class Submission:
    """A candidate on its way into the registry; `folder` holds basis.safetensors and metadata.json."""

    folder: Path
    metrics: Mapping[str, float]
    tags: Mapping[str, str]  # lineage


def log_model(submission: Submission, tags: Mapping[str, str], experiment: str) -> str:
    """Log a candidate in a run of its own, as models from code (no pickle); returns the model's URI.

    Raises:
        FileNotFoundError: the folder has no basis.safetensors or no metadata.json.
    """
    import mlflow

    from lorweb.serving.pyfunc import example, signature

    files = model_files(submission.folder)
    with (
        tempfile.TemporaryDirectory() as scratch,
        mlflow.start_run(experiment_id=experiment, run_name="candidate", nested=True),
    ):
        model = Path(scratch) / "lorweb"
        model.mkdir()
        for path in files:
            shutil.copy2(path, model / path.name)
        mlflow.set_tags({**submission.tags, **tags})
        mlflow.log_metrics(dict(submission.metrics))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"model": str(model)},
            signature=signature(),
            input_example=example(),
            pip_requirements=list(REQUIREMENTS),
        )
    return str(logged.model_uri)


def model_files(folder: Path) -> list[Path]:
    """The files of a candidate that make up the model, sorted by name.

    Raises:
        FileNotFoundError: basis.safetensors or metadata.json is missing.
    """
    for name in (WEIGHTS, "metadata.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; run the train stage (`dvc repro train`) first")
    return sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json") and path.is_file())


def content_hash(folder: Path) -> str:
    """sha256 over names and bytes of `model_files`: the identity of a model version."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def resolve(uri: str, root: Path = Path()) -> Path:
    """`models:/NAME@ALIAS` or `models:/NAME/VERSION` -> a local folder with basis.safetensors and metadata.json.

    Raises:
        ValueError: no registry here, no such model, alias or version.
    """
    open_client(root)
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (MlflowException, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{uri} cannot be had ({first}); see `lorweb registry list`, or give --model PATH. "
            "Without a promoted model, run `make run` first"
        ) from error
    found = sorted(folder.rglob(WEIGHTS))
    if not found:
        raise ValueError(f"{uri} holds no {WEIGHTS}; it was not registered by lorweb. See `lorweb registry list`")
    return found[0].parent
