"""What driver and workers tell each other during one start of the stage: small objects by name, in one place.

The place is a folder that all of them see or, where nodes share nothing else, the store; there each look is a request,
and looks are rarer. A training step waits for neither: a `Messenger` of its own thread carries what comes and goes.
"""

import json
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from lorweb.storage.store import StorageError, Store
from pipelines._train_plan import TrainPlan, depot_key

REFUSAL: Final = "refusal.json"  # a worker: what a retry cannot change
PROGRESS: Final = "progress.json"  # rank 0: where it stands
STARTED: Final = "started"  # any worker: there is somebody to listen
STOP: Final = "stop"  # the driver: stop after this step
STOPPED: Final = "stopped.json"  # rank 0: they have
_NOTES: Final = "notes"  # workers: warnings that a person should read
_ALL: Final = "told"  # of all starts
_PACE: Final = {"folder": 0.05, "store": 2.0}  # s between two looks


@dataclass(frozen=True)
class Told:
    """What is said in one place, by name; what is said again replaces what was said before."""

    store: Store
    prefix: str
    pace: float  # s between two looks

    def say(self, name: str, text: str) -> None:
        """Raises StorageError: the place does not take it."""
        self.store.write(f"{self.prefix}/{name}", text.encode())

    def heard(self, name: str) -> str | None:
        """What was said under a name, None as long as nothing was. Raises StorageError."""
        try:
            return self.store.read(f"{self.prefix}/{name}").decode()
        except FileNotFoundError:
            return None

    def note(self, text: str) -> None:
        """Say one thing more, whoever else does at the same time. Raises StorageError."""
        self.say(f"{_NOTES}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", json.dumps(text))

    def notes(self, known: set[str]) -> list[str]:
        """What was noted and is not known yet, oldest first; it is known from then on. Raises StorageError."""
        fresh = [name for name in self.store.names(f"{self.prefix}/{_NOTES}") if name not in known]
        known.update(fresh)
        return [json.loads(self.heard(f"{_NOTES}/{name}") or '""') for name in fresh]


def told_of(plan: TrainPlan) -> Told:
    """Where driver and workers of one start tell each other things."""
    if plan.store is None:
        return Told(Store(plan.work), f"{_ALL}/{plan.started}", _PACE["folder"])
    return Told(plan.store, f"{depot_key(plan)}/{_ALL}/{plan.started}", _PACE["store"])


def forget_earlier(plan: TrainPlan) -> None:
    """Remove what earlier starts were told. Raises StorageError."""
    told = told_of(plan)
    told.store.remove(told.prefix.rpartition("/")[0])


class Messenger:
    """Looks whether the driver said stop, and says where the training stands, at the pace of the place."""

    def __init__(self, told: Told, listens: bool) -> None:
        self.told, self.listens = told, listens
        self._stop, self._over = threading.Event(), threading.Event()
        self._progress: str | None = None
        self._thread = threading.Thread(target=self._run, name="messenger", daemon=True)

    def stop_said(self) -> bool:
        """Whether the driver wants an end, as far as is known; never waits."""
        return self._stop.is_set()

    def progress(self, text: str) -> None:
        """Where the training stands. Of several between two looks the last one is said; never waits."""
        self._progress = text

    def __enter__(self) -> Self:
        if self.listens:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self.listens:
            self._thread.join()

    def _run(self) -> None:
        while True:
            over = self._over.wait(self.told.pace)
            with suppress(StorageError):  # next time; where it lasts, the next checkpoint says so
                self._carry()
            if over:
                return

    def _carry(self) -> None:
        text, self._progress = self._progress, None
        if text is not None:
            self.told.say(PROGRESS, text)
        if not self._stop.is_set() and self.told.heard(STOP) is not None:
            self._stop.set()
