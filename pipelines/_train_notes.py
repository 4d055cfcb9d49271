"""Warnings of workers reach the person who started the stage: Ray's processes have no console of their own."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from lorweb.storage.store import StorageError
from pipelines._code import CODE, ROOT
from pipelines._train_told import Told

_OURS = tuple(str(ROOT / name) for name in CODE)


@contextmanager
def noting_warnings(told: Told) -> Iterator[None]:
    """In the body, warnings of this project's own code become notes for the driver; others go where they went."""
    before = warnings.showwarning

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(_OURS):
            try:
                told.note(str(message))
                return
            except StorageError:
                pass  # the log of this process is better than nothing
        before(message, category, filename, lineno, file, line)

    warnings.showwarning = note
    try:
        yield
    finally:
        warnings.showwarning = before
