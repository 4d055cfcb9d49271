"""Warnings of workers reach the person who started the stage: Ray's processes have no console of their own."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines._code import CODE, ROOT

_OURS = tuple(str(ROOT / name) for name in CODE)


@contextmanager
def noting_warnings(path: Path) -> Iterator[None]:
    """In the body, warnings of this project's own code become lines of a file; others go where they went."""
    before = warnings.showwarning

    def note(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
        if not filename.startswith(_OURS):
            before(message, category, filename, *rest)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(str(message)) + "\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())  # one write: several workers may append
        finally:
            os.close(descriptor)

    warnings.showwarning = note
    try:
        yield
    finally:
        warnings.showwarning = before


def read_notes(path: Path, position: int) -> tuple[list[str], int]:
    """Whole lines from a byte position on, and the position after them."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            data = file.read()
    except FileNotFoundError:
        return [], position
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], position + len(whole)
