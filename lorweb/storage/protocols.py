"""Which file system a path of a parameter file asks for, and what it says when it cannot."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

_EXTRAS: Final = {"s3": "s3", "s3a": "s3"}  # protocols whose package is an extra of this project
_CHANGED: Final = ("LastModified", "last_modified", "mtime", "created")
_PASSWORD: Final = re.compile(  # no port; up to an @, for it may hold a slash; on the web a user alone is a token
    r"://[^/:@\s]*:(?!\d+(?:/|$))\S*@|https?://[^/:?#@\s]+@", re.I
)


class StorageError(OSError):
    """The store did not do what was asked; the message says what, where and what to do."""


def is_uri(path: str) -> bool:
    """Whether a path of a parameter file names a place by protocol, such as s3://bucket/folder."""
    return "://" in path


def leads_out(name: str) -> bool:
    """Whether a relative path (POSIX) leads out of the folder that it is relative to."""
    return name.startswith("/") or ".." in name.split("/")


def protocol_of(uri: str) -> str:
    """Of a URI; "file" of a path."""
    return uri.split("://", 1)[0] if is_uri(uri) else "file"


def holds_password(text: str) -> bool:
    """Whether a URI, or a text with one in it, names a user with a password, or by a token."""
    return _PASSWORD.search(text) is not None


def file_system(uri: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """fsspec's file system and the path in it. fsspec keeps one instance per process and set of options.

    Raises:
        StorageError: no such protocol, or its package is missing.
    """
    import fsspec

    protocol = protocol_of(uri)
    try:
        fs, path = fsspec.core.url_to_fs(uri if is_uri(uri) else str(Path(uri).expanduser().absolute()), **options)
    except (ValueError, ImportError) as error:
        extra = _EXTRAS.get(protocol)
        advice = f"pip install -e '.[{extra}]'" if extra else "install the package of its protocol, or use another"
        raise StorageError(f"cannot open the store {uri} ({words(error)}); {advice}") from error
    return fs, str(path)


def changed(info: Mapping[str, Any]) -> float | None:
    """When an object was last changed, in seconds since 1970, of what a file system says of it; None if it does not."""
    for key in _CHANGED:
        found = info.get(key)
        if isinstance(found, datetime):
            return found.timestamp()
        if isinstance(found, int | float):
            return float(found)
    return None


def words(error: Exception) -> str:
    """The first line that an error says, or its type."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return first or type(error).__name__
