"""Hashes of a project's files, kept on the node that computed them: what did not change is not read again."""

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from lorweb.data.manifest import file_sha256

NODE_FOLDER: Final = (
    "LORWEB_NODE_FOLDER"  # where a node keeps what it fetched; default: in the system's temporary folder
)
SETTLED: Final = 2_000_000_000  # ns; a file that changed so lately may change again under the same time


def node_home() -> Path:
    """Where this node keeps what is its own; nothing there is lost for ever when it is deleted."""
    default = Path(tempfile.gettempdir()) / f"lorweb-{os.getuid()}"
    return Path(os.environ.get(NODE_FOLDER) or default)


class Hashes:
    """SHA-256 of files below a root, known by path, size and time of change. A context: its end keeps them."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        self._path = node_home() / "hashes" / f"{name}.json"
        self._known: dict[str, list[int | str]] = {}
        self._new = False

    def __enter__(self) -> "Hashes":
        try:
            read = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # never written, or damaged: everything is hashed anew
            read = {}
        self._known = read if isinstance(read, dict) else {}
        return self

    def __call__(self, file: Path) -> str:
        """The hash of a file. Raises OSError."""
        found = file.stat()
        name, state = str(file.absolute()), [found.st_size, found.st_mtime_ns]
        known = self._known.get(name)
        if isinstance(known, list) and len(known) == 3 and known[:2] == state:
            return str(known[2])
        begun = time.time_ns()
        sha256 = file_sha256(file)
        if found.st_mtime_ns < begun - SETTLED:
            self._known[name], self._new = [*state, sha256], True
        return sha256

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._new:
            return
        partial = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self._known), encoding="utf-8")
            partial.replace(self._path)
        except OSError:  # a full disk costs time at the next run, and nothing else
            partial.unlink(missing_ok=True)
