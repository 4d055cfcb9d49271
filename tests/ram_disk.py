"""Folders on a RAM disk where there is one: making a database takes seconds of fsync elsewhere."""

import tempfile
from pathlib import Path


def scratch() -> Path:
    """An empty folder; whoever asks for it removes it."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="lorweb-test-", dir=shared if shared.is_dir() else None))
