"""The MLflow run of a stage, with tags that join it to code, parameters, inputs and outputs by content hash.

Beside the tags of `_lineage.lineage`, a run carries `in.<path>` and `out.<path>`: the `in` hash of a stage equals the
`out` hash of the stage that made it, so one walks from a model back to the pairs it came from. None of it lies in a
DVC out.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import MANIFEST, file_sha256, fingerprint
from lorweb.serving.tracking import experiment_id, open_client
from pipelines._lineage import lineage

_LONGEST: Final = 500  # characters of a parameter that every MLflow server takes


@dataclass(frozen=True)
class StageFacts:
    """What is known when a stage starts. Paths are relative to the project root."""

    stage: str
    params: Mapping[str, Any]  # nested; logged flat, with dots
    inputs: Sequence[Path]  # published folders or files
    metadata: Mapping[str, Any] = field(default_factory=dict)  # base, base_revision, encoder, encoder_revision


@dataclass(frozen=True)
class StageRun:
    """An open MLflow run."""

    client: Any
    run_id: str

    def outputs(self, paths: Sequence[Path]) -> None:
        """Tag what the stage has published."""
        for path in paths:
            self.client.set_tag(self.run_id, f"out.{path.as_posix()}", content_hash(path))

    def artifacts(self, path: Path, folder: str) -> None:
        """Keep all files below a folder with the run; those of the same name are replaced."""
        self.client.log_artifacts(self.run_id, str(path), folder)


@contextmanager
def mlflow_run(facts: StageFacts, resume: str | None = None) -> Iterator[StageRun]:
    """A run for the length of the body; FINISHED at its end, FAILED after an error, KILLED where it was told to stop.

    `resume` is the id of an earlier run of the same work, which goes on; where the database does not know it, a new run
    is made.

    Raises:
        ValueError: MLflow cannot be reached; says what to do.
    """
    from mlflow.exceptions import MlflowException

    client = open_client(create=True)
    run_id = resume if resume and _known(client, resume) else _create(client, facts)
    client.update_run(run_id, status="RUNNING")
    hashes = {f"in.{path.as_posix()}": content_hash(path) for path in facts.inputs}
    for name, value in {**lineage(Path(), dict(facts.metadata)), **hashes}.items():
        client.set_tag(run_id, name, value)
    try:
        yield StageRun(client, run_id)
    except BaseException as error:
        with suppress(MlflowException, OSError):  # a server that is gone must not hide what failed
            client.set_terminated(run_id, "KILLED" if isinstance(error, SystemExit | KeyboardInterrupt) else "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def content_hash(path: Path) -> str:
    """sha256 of a file, or of names and bytes of all files below a folder, wherever it lies.

    A folder with a manifest is known by the manifest's own fingerprint, without reading its shards.
    """
    if path.is_file():
        return file_sha256(path)
    if (path / MANIFEST).is_file():
        return fingerprint(path)
    files = {file.relative_to(path).as_posix(): file_sha256(file) for file in path.rglob("*") if file.is_file()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as {dotted name: JSON text}."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value)
    return flat


def _create(client: Any, facts: StageFacts) -> str:
    from mlflow.entities import Param

    run = client.create_run(experiment_id(client), run_name=facts.stage, tags={"stage": facts.stage})
    params = [Param(name, value[:_LONGEST]) for name, value in flatten(facts.params).items()]
    client.log_batch(run.info.run_id, params=params)
    return str(run.info.run_id)


def _known(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False
