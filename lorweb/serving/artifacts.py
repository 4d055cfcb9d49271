"""The files of a registered model: into MLflow as models from code, and back as a local folder, checked by content."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from lorweb.serving.address import Address
from lorweb.serving.fetched import NotWhole, fetch, find, keep
from lorweb.serving.orphans import owner_tags
from lorweb.serving.tracking import PatientClient, fault_of, open_client, tracking_uri
from lorweb.terminal import first_line

if TYPE_CHECKING:
    from mlflow.data.dataset import Dataset

WEIGHTS: Final = "basis.safetensors"
CONTENT: Final = "content_sha256"  # tag of a version and of its run
# not lorweb itself: a package of that name on an index would not be this one
REQUIREMENTS: Final = ("torch", "diffusers", "transformers", "peft", "safetensors", "pillow", "pandas")
BATCH: Final = 100  # parameters of one request, as MLflow's database takes them


@dataclass(frozen=True)
class Submission:
    """A candidate on its way into the registry; `folder` holds basis.safetensors and metadata.json."""

    folder: Path
    metrics: Mapping[str, float]
    tags: Mapping[str, str]  # lineage, licences
    params: Mapping[str, str] = field(default_factory=dict)  # of the pipeline, flat
    files: Mapping[str, Path] = field(default_factory=dict)  # {place in the run, of the same name: file}
    description: str = ""  # Markdown, of the version
    evaluation_set: str = ""  # sha256 of what the metrics were measured on


def log_model(submission: Submission, tags: Mapping[str, str], experiment: str) -> str:
    """Log a candidate in a run of its own, as models from code (no pickle); returns the model's URI.

    Parameters, reports and metrics are those of the run; the metrics are linked to the model and to the evaluation set,
    so that MLflow's pages of models and of data sets show them.

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
        note = {"mlflow.note.content": submission.description} if submission.description else {}
        mlflow.set_tags({**submission.tags, **tags, **owner_tags(), **note})
        for batch in _batches(submission.params):
            mlflow.log_params(batch)
        for place, path in submission.files.items():
            mlflow.log_artifact(str(path), PurePosixPath(place).parent.as_posix())
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"model": str(model)},
            model_config={CONTENT: tags[CONTENT]},  # in the MLmodel: a loader asks no registry
            signature=signature(),
            input_example=example(),
            pip_requirements=list(REQUIREMENTS),
        )
        dataset = _dataset(submission.evaluation_set)
        if dataset is not None:
            mlflow.log_input(dataset, context="evaluation")
        mlflow.log_metrics(dict(submission.metrics), model_id=logged.model_id, dataset=dataset)
    return str(logged.model_uri)


def _batches(params: Mapping[str, str]) -> Iterator[dict[str, str]]:
    items = list(params.items())
    yield from (dict(items[at : at + BATCH]) for at in range(0, len(items), BATCH))


def _dataset(sha256: str) -> "Dataset | None":
    """The evaluation set as MLflow knows data sets: by name and digest, without its images."""
    if not sha256:
        return None
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = CodeDatasetSource(tags={"made_by": "pipelines.assemble"})
    return MetaDataset(source, name="test analogies", digest=sha256[:36])


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


def fixed(uri: str, root: Path = Path()) -> str:
    """`models:/NAME@ALIAS` as the version that the alias stands on now; anything else as it is.

    Raises:
        ValueError: no registry here, or no such model or alias.
    """
    address = Address.of(uri)
    if address is None or address.number is not None:
        return uri
    client = open_client(root)
    from mlflow.exceptions import MlflowException

    try:
        return str(Address(address.name, number=int(address.version(client).version)))
    except MlflowException as error:
        raise _not_had(uri, client, tracking_uri(root), error) from error


def resolve(uri: str, root: Path = Path()) -> Path:
    """`models:/NAME@ALIAS` or `models:/NAME/VERSION` -> a local folder with basis.safetensors and metadata.json.

    What a server sends lies in a temporary folder until this process ends.

    Raises:
        NotWhole: no such model, alias or version, its files are gone, or they are not those that were registered.
        ValueError: no registry here, or it does not answer.
    """
    client = PatientClient(open_client(root), server := tracking_uri(root))
    from mlflow.exceptions import MlflowException

    try:
        stored = find(client, uri)
        folder = fetch(stored, server)
    except (MlflowException, OSError) as error:
        raise _not_had(uri, client, server, error) from error
    found = sorted(folder.rglob(WEIGHTS))
    if not found:
        raise NotWhole(f"{uri} holds no {WEIGHTS}; it was not registered by lorweb. See `lorweb registry list`")
    check_content(uri, found[0].parent, stored.tags.get(CONTENT, ""))
    if CONTENT in stored.tags:
        keep(stored, server, folder)
    return found[0].parent


def _not_had(uri: str, client: Any, server: str, error: Exception) -> NotWhole:
    first = fault_of(str(error), server) or first_line(error)
    return NotWhole(
        f"{uri} cannot be had ({first}); see `lorweb registry list`, or give --model PATH. {_instead(uri, client)}"
    )


def _instead(uri: str, client: Any) -> str:
    """What a user has who asked for an alias that stands nowhere: a candidate, or nothing yet."""
    from mlflow.exceptions import MlflowException

    address = Address.of(uri)
    try:
        made = client.get_model_version_by_alias(address.name, "candidate") if address and address.alias else None
    except (MlflowException, ValueError):
        made = None
    if made is None or address is None or address.alias == "candidate":
        return "Without a promoted model, run `make run` first"
    state = made.tags.get("decision", "")
    return (
        f"The candidate is version {made.version}{state and f', which was {state}'}: `--model models:/{address.name}"
        f"@candidate` takes it, `lorweb registry promote {made.version} --reason TEXT` makes it the champion"
    )


def check_content(uri: str, folder: Path, registered: str) -> None:
    """Raises NotWhole where a model's files are not those that were registered; "" is of versions without a hash."""
    try:
        found = content_hash(folder)
    except FileNotFoundError as error:
        raise NotWhole(f"{uri} is damaged: {error}") from error
    if registered and found != registered:
        raise NotWhole(
            f"{uri} is damaged: its files have the content hash {found[:16]}, but were registered with "
            f"{registered[:16]}; restore them from a copy; if it is the champion, `lorweb registry rollback` leaves it"
        )
