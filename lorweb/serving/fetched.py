"""Files of a registered model on this machine: where they lie, or sent by a server for the time of the process."""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from stat import S_ISDIR
from typing import IO, Any, Final
from urllib.parse import urlsplit

from lorweb.serving.address import Address
from lorweb.serving.tracking import patiently
from lorweb.storage.locks import idle, lock_of, reading

_SENT: Final[dict[tuple[str, str], Path]] = {}  # (server, version) -> what it has sent to this process, found whole
_HELD: Final[list[IO[str]]] = []  # locks that tell other processes that this one lives
_PREFIX: Final = "lorweb-models-"
_YOUNG: Final = 60.0  # s; a younger folder may be of a process that has not locked it yet


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
    """A folder of this process that goes with it; those of processes that were killed go now."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    _HELD.append(reading(folder / "sent"))
    atexit.register(_remove, folder, process)
    for old in folder.parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another one tidies, too
            about = old.lstat()
            if about.st_uid != os.getuid() or not S_ISDIR(about.st_mode) or about.st_mtime > time.time() - _YOUNG:
                continue
            with idle(lock_of(old / "sent")) as free:
                if free:
                    shutil.rmtree(old, ignore_errors=True)
    return folder


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # and not one that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
