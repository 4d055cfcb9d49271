"""SIGTERM, which a scheduler sends before it takes a machine away: training ends after its step, with a checkpoint.

The driver cannot reach into its workers, so it leaves a file in the folder that they share, and rank 0 looks for it at
every step. A worker that gets the signal itself raises a flag in its process. Either way all ranks stop at one step,
and the stage ends with a sentence and exit code 143.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, Self

from pipelines._train_plan import STARTED, STOP

PREEMPTED: Final = 128 + signal.SIGTERM  # what a shell reports of a process that SIGTERM ended
_flag = threading.Event()  # in a worker


def end_preempted(sentence: str) -> NoReturn:
    """End the stage with a sentence and the code that says that it was asked to."""
    print(f"train: {sentence}; run the same command again to go on", file=sys.stderr, flush=True)
    raise SystemExit(PREEMPTED)


class Sigterm:
    """The driver's way to take SIGTERM while it is entered: at once, or in `passed_on` by asking the workers."""

    def __init__(self) -> None:
        self.came = False
        self._file: Path | None = None
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @contextmanager
    def passed_on(self, folder: Path) -> Iterator[None]:
        """Signals that come in the body become a file in `folder`, which `asked` finds."""
        self._file = folder / STOP
        try:
            yield
        finally:
            self._file = None

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        if self._file is None or not (self._file.parent / STARTED).exists():
            end_preempted("stopped by SIGTERM while no training step ran")
        self._file.touch()


def raise_flag_on_sigterm() -> None:
    """Let SIGTERM stop the training of this worker, not the worker. For its main thread."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: _flag.set())


def asked(folder: Path, rank: int) -> Callable[[], bool]:
    """Whether this worker was told to stop; only rank 0 looks at the disk."""
    return lambda: _flag.is_set() or (rank == 0 and (folder / STOP).exists())


def torch_config(backend: str) -> Any:
    """Ray Train's TorchConfig, whose workers take SIGTERM as above.

    Training runs in a thread of a worker, and only a main thread may set handlers: a backend starts in the latter.
    """
    from pipelines._train_backend import HeedingTorchConfig

    return HeedingTorchConfig(backend=backend)
