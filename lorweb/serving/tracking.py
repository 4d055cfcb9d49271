"""Where MLflow lives: one rule for the address, a database that is made on first use, and a server that must answer."""

import fcntl
import itertools
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from lorweb.serving.address import sqlite_file, sqlite_uri
from lorweb.serving.moved import ARTIFACTS, EXPERIMENT, follow
from lorweb.serving.reachable import check_reachable, first_line, without_password

__all__ = ["PatientClient", "check_reachable", "experiment_id", "fault_of", "open_client", "patiently", "tracking_uri"]
WAIT: Final = 30.0  # s after which a call that finds the database locked is not made again; MLflow waits 20 by itself
PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # s before the next try, the last one for all further ones
BUSY: Final = (
    "database is locked",
    "database table is locked",
    "deadlock detected",
    "could not serialize access",
    "Model Version creation error",  # MLflow's own three tries to take the next number
)
AWAY: Final = ("connection refused", "could not connect", "connection to server", "server closed the connection")


class PatientClient:
    """An MlflowClient whose calls are made again where they find the database locked by another process.

    A call that fails so has changed nothing. Faults of the database itself come as a ValueError that says what to do;
    any other MlflowException passes.
    """

    def __init__(self, client: Any, uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(patiently, self._uri, found) if callable(found) else found


def patiently(uri: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """`call(...)`, again and again for up to `WAIT` seconds while the database is locked.

    Raises:
        ValueError: it stays locked, is away, cannot be used, or is of another version of MLflow; says what to do.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    begun = time.monotonic()
    for attempt in itertools.count():
        try:
            return call(*arguments, **named)
        except (MlflowException, SQLAlchemyError) as error:
            text = str(error)
            if any(words in text for words in BUSY) and time.monotonic() - begun < WAIT:
                time.sleep(PAUSES[min(attempt, len(PAUSES) - 1)] * random.uniform(0.5, 1.0))
                continue
            sentence = fault_of(text, uri)
            if sentence is None and isinstance(error, MlflowException):
                raise
            sentence = sentence or f"the database of {without_password(uri)} cannot be used ({first_line(error)})"
            raise ValueError(sentence) from error
    raise AssertionError("unreachable")


def fault_of(text: str, uri: str) -> str | None:
    """A sentence on what is wrong with the database or the server, from what MLflow says; None if it is neither."""
    uri = without_password(uri)
    if any(words in text for words in BUSY):
        return (
            f"the model registry at {uri} stayed locked by another process for {WAIT:.0f} s; wait for that "
            "process or end it, then run the same command again (several writers at a time want a server with "
            "Postgres: docs/registry.md)"
        )
    if "readonly database" in text or "read-only transaction" in text:
        return f"the model registry at {uri} can only be read; make it writable, or set MLFLOW_TRACKING_URI to another"
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return (
            f"the database of {uri} was made by another version of MLflow than this one; copy it away, then run "
            f"`mlflow db upgrade {uri}` (of a server: with the address of its database), or install the MLflow that "
            "made it"
        )
    if "API request to" in text and "failed with exception" in text:
        return f"the MLflow server at {uri} no longer answers; start it, then run the same command again"
    if "OperationalError" in text and any(words in text.lower() for words in AWAY):
        return f"the database at {uri} no longer answers; start it, then run the same command again"
    return None


def tracking_uri(root: Path = Path()) -> str:
    """`MLFLOW_TRACKING_URI` if it is set, else the SQLite file `mlflow.db` in the project root, as an absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root.resolve() / "mlflow.db")


def open_client(root: Path = Path(), create: bool = False) -> Any:
    """An MlflowClient at `tracking_uri(root)`, which also becomes MLflow's own address in this process.

    The paths in the database of a project that was moved or copied are put right; see `lorweb.serving.moved`.

    Raises:
        ValueError: the server does not answer, there is no database and `create` is false, or it cannot be used; says
            what to do.
    """
    uri = tracking_uri(root)
    check_reachable(uri, create)
    _follow(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")  # half a minute; by default it is four
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it does not ask for a terminal
    import mlflow

    _quiet()
    given = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)  # also writes the variable, which would outlive this project root
    mlflow.set_registry_uri(uri)
    if given is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        with _alone(sqlite_file(uri)):
            return patiently(uri, mlflow.MlflowClient, uri, uri)
    except mlflow.exceptions.MlflowException as error:
        raise ValueError(
            f"MLflow cannot use {without_password(uri)} ({first_line(error)}); see MLFLOW_TRACKING_URI"
        ) from error


@contextmanager
def _alone(database: Path | None) -> Iterator[None]:
    """One process at a time makes a database file: MLflow's migrations trip over those of another process.

    The lock is on the folder, so that it leaves no file; on a disk that knows no locks there is none.
    """
    if database is None:
        yield
        return
    folder = os.open(database.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _follow(uri: str) -> None:
    try:
        follow(uri)
    except sqlite3.Error as error:
        raise ValueError(
            fault_of(str(error), uri) or f"the database of {uri} cannot be used ({error}); restore it from a copy"
        ) from error


def experiment_id(client: Any, root: Path = Path()) -> str:
    """The experiment `lorweb`, made on first use; beside an SQLite database its artifacts lie in `mlartifacts/`."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    local = tracking_uri(root).startswith("sqlite:")
    location = (root.resolve() / ARTIFACTS).as_uri() if local else None
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=location))
    except MlflowException:  # another process has made it meanwhile
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            raise
        return str(found.experiment_id)


def _quiet() -> None:
    """MLflow reports every migration step and model load on the console; keep what is a warning or worse."""
    import logging

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # that torch's "+cpu" is left out of the requirements of a model
    logging.getLogger("mlflow.utils.requirements_utils").setLevel(logging.ERROR)
    # its traceback of what is said or tried again
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
