"""Files of a registered model on this machine: where they lie, or sent by a server for the time of the process."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lorweb.serving.address import Address
from lorweb.serving.tracking import patiently

_SENT: Final[dict[tuple[str, str], Path]] = {}  # (server, version) -> what it has sent to this process, found whole


class NotWhole(ValueError):
    """There is no such model, or its files are gone or are not those that were registered."""


@dataclass(frozen=True)
class Stored:
    """A model in a registry: its URI (of a version, by number), the version's tags, and where its files lie."""

    uri: str
    tags: Mapping[str, str] = field(default_factory=dict)
    place: str = ""

    @property
    def local(self) -> bool:
        """Whether MLflow gives the files where they are."""
        return bool(self.place) and urlsplit(self.place).scheme in ("", "file")


def find(client: Any, uri: str) -> Stored:
    """What the registry knows of a model. Raises MlflowException where there is none."""
    address = Address.of(uri)
    if address is None:
        return Stored(uri)
    version = address.version(client)
    fixed = Address(address.name, number=int(version.version))
    return Stored(str(fixed), version.tags, client.get_model_version_download_uri(address.name, version.version) or "")


def fetch(stored: Stored, server: str) -> Path:
    """Its folder. MLflow by itself would leave a new copy of what a server sends behind with every call.

    Raises:
        MlflowException, OSError: it cannot be had.
        ValueError: see `patiently`.
    """
    import mlflow

    kept = _SENT.get((server, stored.uri))
    if kept is not None and kept.is_dir():
        return kept
    place = {} if stored.local else {"dst_path": tempfile.mkdtemp(dir=_scratch(os.getpid()))}
    return Path(patiently(server, mlflow.artifacts.download_artifacts, artifact_uri=stored.uri, **place))


def keep(stored: Stored, server: str, folder: Path) -> None:
    """Let `fetch` give this folder again, once its content was found to be the version's."""
    if not stored.local:
        _SENT[server, stored.uri] = folder


@cache
def _scratch(process: int) -> Path:
    """A folder of this process that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="lorweb-models-"))
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not one that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
