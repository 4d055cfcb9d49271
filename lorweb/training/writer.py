"""Who writes the checkpoints of a run: the training itself, or one thread beside it, from a copy in host memory."""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lorweb.training.depot import Depot
from lorweb.training.state import Snapshot, save_checkpoint


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the `keep` newest, and that of step `best`."""

    keep: int
    best: int | None


class Writer:
    """Saves snapshots into one folder, and from there into a depot if there is one. At most one is under way; the next
    one waits for it.

    With `background` a thread writes and `save` returns at once, so snapshots must share no memory with what the next
    step changes. Use as a context manager: leaving it waits, so that no checkpoint is given up half-way
    because the training failed meanwhile.
    """

    def __init__(self, folder: Path, background: bool, depot: Depot | None = None) -> None:
        self.folder: Final = folder
        self.depot: Final = depot
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self._flying: tuple[Snapshot, Future[None]] | None = None
        self._landed: list[Snapshot] = []

    def save(self, snapshot: Snapshot, retention: Retention) -> None:
        """Write a snapshot, or have it written.

        Raises:
            OSError: this one, or in the background the one before, could not be written; older ones are whole.
        """
        self.wait()
        if self._pool is None:
            self._keep(snapshot, retention)
            self._landed.append(snapshot)
            return
        self._flying = (snapshot, self._pool.submit(self._keep, snapshot, retention))

    def _keep(self, snapshot: Snapshot, retention: Retention) -> None:
        path = save_checkpoint(self.folder, snapshot, retention.keep, retention.best)
        if self.depot is not None:
            self.depot.put(path, retention.keep, retention.best)

    def written(self) -> list[Snapshot]:
        """What has come to lie where it is kept since the last call; never waits.

        Raises:
            OSError: a checkpoint could not be written.
        """
        if self._flying is not None and self._flying[1].done():
            self.wait()
        landed, self._landed = self._landed, []
        return landed

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            OSError: the checkpoint could not be written.
        """
        if self._flying is not None:
            (snapshot, flight), self._flying = self._flying, None
            flight.result()
            self._landed.append(snapshot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except OSError as unwritten:
            if error is None:
                raise
            warnings.warn(str(unwritten), stacklevel=2)  # the training's own failure is the one to report
        finally:
            if self._pool is not None:
                self._pool.shutdown()
