"""One function over many rows, and the actor that runs it batch by batch."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from lorweb.data.checks import Refusal, reject
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id
from lorweb.sections import Pool
from lorweb.storage import StorageError
from lorweb.storage.places import is_bound
from pipelines._batches import Batches, Item
from pipelines._code import worker_code
from pipelines._journal import FORMAT, Journal
from pipelines._node import NoProject, Seat, store
from pipelines._pace import Count, peak_megabytes
from pipelines._results import read_batch

Result = dict[str, Any] | Rejected
Worker = Callable[[list[Item]], Sequence[Result]]


@dataclass(frozen=True)
class RowJob:
    """One function over many rows. The worker is made once per actor and gives a row or a `Rejected` for each item."""

    stage: str
    function: str
    worker: Callable[..., Worker]
    arguments: tuple[Any, ...]
    identity: tuple[object, ...]  # version of the function, parameters it reads, model revisions
    schema: pa.Schema
    pool: Pool
    max_error_rate: float  # share of refused rows above which the stage fails
    picked: Mapping[str, str] = field(default_factory=dict)  # of registries that the worker asks: _code.worker_code
    reads: tuple[str, ...] = ()  # files and folders below the project's root that the worker opens

    @property
    def journal(self) -> Journal:  # made in the driver alone: workers are told which it is
        decides = (*self.identity, FORMAT, self.schema.types, worker_code(self.worker, self.picked))
        return Journal(self.stage, f"{self.function}-{stable_id(self.schema.names, *decides)}", self.schema, store())


class Runner:
    """The actor: runs one batch after another and journals each before it reports.

    Wherever Ray started it, its working directory stands for the project root: paths in parameters are relative to it.
    """

    def __init__(self, job: RowJob, journal: Journal, seat: Seat, batches: Batches) -> None:
        self.job, self.journal, self.batches, self.fault = job, journal, batches, ""
        try:
            seat.take(journal.folder)
            if is_bound() and journal.copies:
                journal.copies.bring_todo(batches.path)
            self.worker = job.worker(*job.arguments)
        except (StorageError, NoProject) as error:  # told by the first batch: what is raised here is hard to read
            self.fault = str(error)

    def __call__(self, row: dict[str, int]) -> Count:
        """Work batch number `row["id"]`. A fault of disk or store is told: Ray drops the text of what is raised."""
        try:
            return self._work(row) if not self.fault else failed(self.fault)
        except (OSError, pa.ArrowInvalid) as error:
            return failed(str(error))

    def _work(self, row: dict[str, int]) -> Count:
        items: list[Item] = json.loads(self.batches[int(row["id"])])
        path = self.journal.path(stable_id(*map(row_key, items)))
        started = time.perf_counter()
        refused = self._held(path)
        if refused is None:
            self._write(path, items, self._results(items))
            refused = read_batch(path)["refused"]
        busy = time.perf_counter() - started
        kept = refused.null_count
        if is_bound():  # the driver finds it in the store
            path.unlink(missing_ok=True)
        found = {"kept": kept, "refused": len(refused) - kept, "busy": busy, "megabytes": peak_megabytes()}
        return {**found, "fault": ""}

    def _held(self, path: Path) -> pa.ChunkedArray | None:
        """Which rows of a batch were refused, if it is finished: a task died after this work, and it is repeated."""
        if not self.journal.holds(path):
            return None
        try:
            return read_batch(path)["refused"]
        except (OSError, pa.ArrowInvalid):  # damaged since: worked again
            self.journal.drop(path)
            return None

    def _results(self, items: list[Item]) -> Sequence[Result]:
        """The whole batch at once; if that raises, item by item, so that one bad row costs itself alone."""
        try:
            results = self.worker(items)
        except StorageError:  # no fault of a row: the stage stops, and none of them counts as refused
            raise
        except Exception:
            results = [self._one(item) for item in items]
        assert len(results) == len(items), f"{self.job.function} gave {len(results)} results for {len(items)} items"
        return results

    def _one(self, item: Item) -> Result:
        try:
            return self.worker([item])[0]
        except Rejected as why:
            return why
        except StorageError:
            raise
        except Exception as error:
            return Rejected("error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def _write(self, path: Path, items: list[Item], results: Sequence[Result]) -> None:
        rows = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Rejected):
                refused = reject(Refusal(item["id"], self.job.stage, {}), result)
                rows.append({"key": row_key(item), "refused": json.dumps(refused, sort_keys=True)})
            else:
                rows.append({"key": row_key(item), **result})
        self.journal.write(path, pa.Table.from_pylist(rows, self.journal.schema))


def failed(fault: str) -> Count:
    """Of a batch that could not be worked: the stage stops with this sentence."""
    return {"kept": 0, "refused": 0, "busy": 0.0, "megabytes": 0, "fault": fault}


def row_key(item: Item) -> str:
    """What makes two rows the same work: every value of the item except where its bytes happen to lie."""
    return stable_id(json.dumps({k: v for k, v in item.items() if k != "at"}, sort_keys=True))
