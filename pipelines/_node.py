"""What this machine and the others of a cluster have in common."""

from pathlib import Path

from lorweb.config import load_params
from lorweb.storage.store import Store, is_uri


def store() -> Store | None:
    """What nodes share where they share nothing else, as params.yaml says; None: the project's folder."""
    storage = load_params().storage
    if storage.uri is None:
        return None
    uri = storage.uri if is_uri(storage.uri) else str(Path(storage.uri).expanduser().absolute())
    return Store(uri, dict(storage.options))
