"""SIGTERM, which a scheduler sends before it takes a machine away: training ends after its step, with a checkpoint.

The driver cannot reach into its workers, so it leaves word where rank 0 looks for it (`_train_told`). A worker that
gets the signal itself raises a flag in its process. Either way all ranks stop at one step, and the stage ends with a
sentence and exit code 143.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn, Self

from lorweb.storage.store import StorageError
from pipelines._train_told import STARTED, STOP, Messenger, Told

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
        self._before: Any = None
        self._listened, self._wake = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @property
    def heeded(self) -> bool:
        """Whether there are workers who would stop."""
        return self._listened.is_set()

    @contextmanager
    def passed_on(self, told: Told) -> Iterator[None]:
        """Signals that come in the body are told to the workers, as soon as there are any.

        A thread does it: a handler must not wait for a store.
        """
        over = threading.Event()
        thread = threading.Thread(target=self._pass_on, args=(told, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._listened.clear()
            over.set()
            self._wake.set()
            thread.join()
            self._wake.clear()

    def _pass_on(self, told: Told, over: threading.Event) -> None:
        said = False
        while not (said or over.is_set()):
            try:
                if self.came and self._listened.is_set():
                    told.say(STOP, "1")
                    said = True
                elif not self._listened.is_set() and told.heard(STARTED) is not None:
                    self._listened.set()
            except StorageError:  # it may be back at the next look
                self._wake.clear()
            if not said:
                self._wake.wait(told.pace)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        if not self._listened.is_set():
            end_preempted("stopped by SIGTERM while no training step ran")
        self._wake.set()


def raise_flag_on_sigterm() -> None:
    """Let SIGTERM stop the training of this worker, not the worker. For its main thread."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: _flag.set())


def asked(messenger: Messenger) -> Callable[[], bool]:
    """Whether this worker was told to stop, by a signal or by the driver; never waits."""
    return lambda: _flag.is_set() or messenger.stop_said()


def torch_config(backend: str) -> Any:
    """Ray Train's TorchConfig, whose workers take SIGTERM as above.

    Training runs in a thread of a worker, and only a main thread may set handlers: a backend starts in the latter.
    """
    from pipelines._train_backend import HeedingTorchConfig

    return HeedingTorchConfig(backend=backend)
