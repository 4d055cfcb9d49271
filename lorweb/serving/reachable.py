"""Whether an address of MLflow can be used, found out in seconds and said in a sentence that holds no password."""

import base64
import contextlib
import http.client
import os
import re
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Final

from lorweb.serving.address import sqlite_file

TIMEOUT: Final = 5.0  # s, for a sign of life
PATIENCE: Final = 30.0  # s, with a server that takes the question and is too busy to answer
DATABASES: Final = ("postgresql", "mysql", "mssql")
_MLFLOW: Final = {"experiments", "alembic_version"}  # tables that every database of MLflow has
_MAGIC: Final = b"SQLite format 3\0"
_USER: Final = re.compile(r"(://[^/:@\s]*):\S*@")  # up to the last @: a password may hold one, and a slash too
_WEB: Final = re.compile(r"(https?://)[^/?#\s]+@", re.I)  # there a user may be a token
_QUERY: Final = re.compile(r"([?&](?:ssl)?pass(?:word|wd)?=)[^&\s]*", re.I)


def without_password(text: str) -> str:
    """An address, or a sentence with addresses, as it may be shown."""
    return _QUERY.sub(r"\1***", _USER.sub(r"\1:***@", _WEB.sub(r"\1***@", text)))


def check_reachable(uri: str, create: bool, patience: float = PATIENCE) -> None:
    """Raises ValueError if the server or database does not answer, or the file is missing (unless `create`).

    A server that takes the question and is silent is busy: it is asked again for `patience` seconds.
    """
    if uri.startswith(("http://", "https://")):
        _check_server(uri, patience)
    elif (file := sqlite_file(uri)) is not None:
        _check_file(file, create)
    elif uri.partition("://")[0].partition("+")[0] in DATABASES:
        _check_database(uri)


def first_line(error: BaseException) -> str:
    """What an exception says first, without passwords; its type where it says nothing."""
    return without_password((str(error).strip().splitlines() or [type(error).__name__])[0])


def _check_server(uri: str, patience: float) -> None:
    user, _, rest = uri.partition("://")[2].rpartition("@")
    request_headers = {}
    if user:
        request_headers["Authorization"] = f"Basic {base64.b64encode(urllib.parse.unquote(user).encode()).decode()}"
    try:
        address = f"{uri.partition('://')[0]}://{rest.rstrip('/')}/health"
        _ask(urllib.request.Request(address, headers=request_headers), patience)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", "") or first_line(error)
        raise ValueError(
            f"the MLflow server at {without_password(uri)} does not answer ({without_password(str(reason))}); start "
            "it, or unset MLFLOW_TRACKING_URI to use mlflow.db"
        ) from error


def _ask(request: urllib.request.Request, patience: float) -> None:
    last = time.monotonic() + patience
    while True:
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT).close()
            return
        except TimeoutError:  # it has connected: where that takes too long, it is a URLError
            if time.monotonic() > last:
                raise


def _check_file(path: Path, create: bool) -> None:
    if not path.is_file() and not create:
        raise ValueError(
            f"there is no model registry at {path}; run from the root of a project where `make run` has finished, set "
            "MLFLOW_TRACKING_URI, or, where the command takes a model, give --model PATH (a folder or a "
            "basis.safetensors)"
        )
    if not os.access(path if path.is_file() else path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written; make it writable, or set MLFLOW_TRACKING_URI to another database")
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
        if start != _MAGIC:
            raise ValueError(
                f"{path} is no SQLite database; restore it from a copy, or move it away and run `dvc repro promote`"
            )
        _check_owner(path)


def _check_owner(path: Path) -> None:
    """MLflow would write its tables into the database of any other program."""
    tables: set[str] = set()
    with (
        contextlib.suppress(sqlite3.Error),  # locked, say: MLflow's own calls tell
        contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", TIMEOUT, uri=True)) as database,
    ):
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not tables & _MLFLOW:
        raise ValueError(
            f"{path} is the database of another program (its tables: {', '.join(sorted(tables)[:3])}); set "
            "MLFLOW_TRACKING_URI to one of MLflow, or to a file that is not there yet"
        )


def _check_database(uri: str) -> None:
    """One connection: MLflow by itself tries for minutes, and then ends with a traceback."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    if uri.partition("://")[2].count("@") > 1:  # taken for the host's name, and told as such
        raise ValueError(f"the address {without_password(uri)} has an @ in its password; write %40 for it")
    limit = "timeout" if uri.startswith("mssql") else "connect_timeout"
    try:
        engine = create_engine(uri, connect_args={limit: int(TIMEOUT)})
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except ImportError as error:
        raise ValueError(
            f"the driver of {without_password(uri)} is not installed ({first_line(error)}); for Postgres: pip install "
            "-e '.[cluster]' in the project's folder, and an address that begins with postgresql+psycopg2://"
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        raise ValueError(
            f"the database at {without_password(uri)} does not answer ({first_line(error)}); start it, or correct "
            "MLFLOW_TRACKING_URI"
        ) from error
