"""A project folder that was moved or copied: MLflow writes whole paths into its database, and here they follow.

Without this a moved project would have lost its champion, and a copy would read and write the files of the original.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from lorweb.serving.address import sqlite_file

EXPERIMENT: Final = "lorweb"
ARTIFACTS: Final = "mlartifacts"  # folder beside an SQLite database
WAIT: Final = 30.0  # s for a database that another process holds
PLACES: Final = (  # all columns of MLflow's tables that say where files lie
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow(uri: str) -> tuple[Path, Path] | None:
    """Let the paths of an SQLite database point at the `mlartifacts` beside it, if its files lie there by now.

    All of them change in one transaction, or none. Other databases, and files that are not there, are left alone.

    Returns:
        (folder before, folder now), or None where nothing had to change.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    file = sqlite_file(uri)
    if file is None or not file.is_file():
        return None
    home = file.resolve().parent / ARTIFACTS
    with contextlib.closing(sqlite3.connect(file, timeout=WAIT, isolation_level=None)) as database:
        database.execute("BEGIN")  # one view: another process may be making the tables just now
        before = _left_behind(database, home)
        database.execute("COMMIT")
        if before is None:
            return None
        database.execute("BEGIN IMMEDIATE")
        before = _left_behind(database, home)  # again: another process may have been faster
        if before is not None:
            for table, column in _places(database):
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {_below(column)}",
                    (home.as_uri(), len(before) + 1, before, before),
                )
        database.execute("COMMIT")
    if before is None:
        return None
    logging.getLogger(__name__).warning(
        "lorweb: %s belonged to %s; its paths now point at %s", file, _path(before).parent, home
    )
    return _path(before), home


def _left_behind(database: sqlite3.Connection, home: Path) -> str | None:
    """The URI of the folder that the database speaks of, if that is not `home` and its files are found in `home`."""
    if ("experiments", "artifact_location") not in _places(database):
        return None  # empty, or not MLflow's
    found = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)).fetchone()
    before = found[0] if found else ""
    path = _path(before or "")
    if path.name != ARTIFACTS or path == home or not home.is_dir() or (path.exists() and path.samefile(home)):
        return None
    stored = list(_stored(database, before))
    here = any((home / place).exists() for place in stored)
    return before if here or not stored else None


def _stored(database: sqlite3.Connection, before: str) -> Iterator[str]:
    """Places of runs and models below the folder `before`."""
    for table, column in _places(database):
        if table in ("runs", "logged_models"):
            query = f"SELECT {column} FROM {table} WHERE {_below(column)}"
            for (uri,) in database.execute(query, (before, before)):
                yield unquote(uri[len(before) + 1 :])


def _below(column: str) -> str:
    """An SQL condition with the folder's URI as its two parameters."""
    return f"({column} = ? OR instr({column}, ? || '/') = 1)"


def _places(database: sqlite3.Connection) -> list[tuple[str, str]]:
    """Those of `PLACES` that this version of MLflow has."""
    return [
        (table, column)
        for table, column in PLACES
        if any(row[1] == column for row in database.execute(f"PRAGMA table_info({table})"))
    ]


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else Path()
