"""Versions of the registered model: how they are read, and how one is made."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lorweb.serving.artifacts import CONTENT, Submission, log_model, resolve
from lorweb.serving.fetched import NotWhole
from lorweb.serving.history import State, ensure_model, versions_of
from lorweb.serving.orphans import PENDING, remove_failed, try_to_remove
from lorweb.serving.tracking import experiment_id, patiently, tracking_uri

LOG: Final = logging.getLogger(__name__)
ALIASES: Final = ("candidate", "champion", "previous")


@dataclass(frozen=True)
class Version:
    """One version of the registered model."""

    number: int
    content: str  # hash of its files
    aliases: tuple[str, ...]
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    created: int = 0  # ms since 1970
    description: str = ""


def read_versions(client: Any, model: str, aliases: Mapping[str, int]) -> list[Version]:
    """All versions, oldest first; empty if the model was never registered."""
    versions = [
        Version(
            int(v.version),
            v.tags.get(CONTENT, ""),
            tuple(a for a in ALIASES if aliases.get(a) == int(v.version)),
            v.run_id or "",
            dict(v.tags),
            int(v.creation_timestamp or 0),
            v.description or "",
        )
        for v in versions_of(client, model)
    ]
    return sorted(versions, key=lambda version: version.number)


def is_whole(model: str, number: int, root: Path) -> bool:
    """Whether a version's files are there and are those that were registered; says on the log what is wrong."""
    try:
        resolve(f"models:/{model}/{number}", root)
    except NotWhole as error:
        LOG.warning("%s; these bytes are not taken from version %d", error, number)
        return False
    return True


def check_files(model: str, number: int, root: Path, champion: int | None) -> None:
    """Before a version becomes the champion in place of another. Raises NotWhole, which says that nothing was moved."""
    try:
        resolve(f"models:/{model}/{number}", root)
    except NotWhole as error:
        stays = f"version {champion} stays the champion" if champion is not None else "there is no champion yet"
        raise NotWhole(f"{error}. Nothing was moved: {stays}") from error


def make_version(client: Any, model: str, root: Path, submission: Submission, content: str) -> int:
    """Log a candidate and register it; returns the number of its version."""
    import mlflow

    uri, experiment = tracking_uri(root), experiment_id(client, root)
    ensure_model(client, model, "Visual analogies with a learned basis of LoRAs; `lorweb registry list`.")

    def log() -> str:
        try:
            return log_model(submission, {CONTENT: content, PENDING: "yes"}, experiment)
        except Exception:
            with suppress(Exception):  # what went wrong is worth more than what could not be tidied up after it
                remove_failed(client, experiment, CONTENT, content)
            raise

    source = patiently(uri, log)
    tags = {**submission.tags, CONTENT: content}  # written with the version itself: no crash can part them
    version = patiently(uri, mlflow.register_model, source, model, tags=tags)
    client.set_tag(version.run_id, PENDING, "no")
    return int(version.version)


def displaced(versions: Sequence[Version], number: int, now: State) -> int | None:
    """Which version is `previous` once another one is the champion: the champion till now.

    If both have the same bytes it is whichever was `previous`: a rollback leads to other bytes.
    """
    content = {version.number: version.content for version in versions}
    same = now.champion is not None and content.get(now.champion, "") == content[number] != ""
    return now.previous if same and now.previous != number else now.champion


def withdraw(client: Any, model: str, number: int) -> None:
    """Take back a version whose bytes another process has registered first, with its run and its copy of the weights.

    The version goes first: one without files would be worse than files that no version names.
    """
    run_id = client.get_model_version(model, str(number)).run_id
    client.set_tag(run_id, PENDING, "yes")  # should this process die here, another one removes what is left
    client.delete_model_version(model, str(number))
    try_to_remove(client, client.get_run(run_id))
