"""The row engine: a plain callable class over many rows on Ray Data, with a journal that survives any kill.

Each finished batch is one Arrow file in `.work/<stage>/<function>-<identity>/`, renamed into place. A row is known by
the hash of its item; the folder by everything else that decides the result. So the next run does only what is missing,
a changed parameter redoes only what it touches, and the merge gives the same bytes whatever the order of arrival.
Items pass through the driver one by one; what waits to be worked lies on disk.
"""

import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lorweb.config import Pool
from lorweb.data.checks import Refusal, reject
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id
from pipelines._batches import Batches, Item
from pipelines._code import worker_code
from pipelines._journal import FORMAT, Finished, Journal, Keys, Results, as_keys, contained, read_batch
from pipelines._pace import Count, Pace, peak_megabytes, shown
from pipelines._stage import StageFailed, TooManyRefused, start_ray

Result = dict[str, Any] | Rejected
Worker = Callable[[list[Item]], list[Result]]
BLOCKS_PER_ACTOR: Final = 64  # each a task, some 10 ms of Ray's own; beyond, a block carries several batches


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

    @property
    def journal(self) -> Journal:  # made in the driver alone: workers are told which it is
        decides = (*self.identity, FORMAT, self.schema.types, worker_code(self.worker, self.picked))
        return Journal(self.stage, f"{self.function}-{stable_id(self.schema.names, *decides)}", self.schema)


class Runner:
    """The actor: runs one batch after another and journals each before it reports.

    It works in the project root, wherever Ray started it: paths in parameters are relative to that.
    """

    def __init__(self, job: RowJob, journal: Journal, root: str, batches: Batches) -> None:
        if not Path(root, journal.folder).is_dir():
            raise StageFailed(f"no {root} on this node; every node of the cluster needs the project folder at one path")
        os.chdir(root)
        self.job, self.journal, self.batches = job, journal, batches
        self.worker = job.worker(*job.arguments)

    def __call__(self, row: dict[str, int]) -> Count:
        """Work batch number `row["id"]`."""
        items: list[Item] = json.loads(self.batches[int(row["id"])])
        path = self.journal.path(stable_id(*map(row_key, items)))
        started = time.perf_counter()
        if not path.exists():  # there already: this task died after its work, and is being repeated
            self._write(path, items, self._results(items))
        busy = time.perf_counter() - started
        refused = read_batch(path)["refused"]
        kept = refused.null_count
        return {"kept": kept, "refused": len(refused) - kept, "busy": busy, "megabytes": peak_megabytes()}

    def _results(self, items: list[Item]) -> list[Result]:
        """The whole batch at once; if that raises, item by item, so that one bad row costs itself alone."""
        try:
            results = self.worker(items)
        except Exception:
            results = [self._one(item) for item in items]
        assert len(results) == len(items), f"{self.job.function} gave {len(results)} results for {len(items)} items"
        return results

    def _one(self, item: Item) -> Result:
        try:
            return self.worker([item])[0]
        except Rejected as why:
            return why
        except Exception as error:
            return Rejected("error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def _write(self, path: Path, items: list[Item], results: list[Result]) -> None:
        rows = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Rejected):
                refused = reject(Refusal(item["id"], self.job.stage, {}), result)
                rows.append({"key": row_key(item), "refused": json.dumps(refused, sort_keys=True)})
            else:
                rows.append({"key": row_key(item), **result})
        self.journal.write(path, pa.Table.from_pylist(rows, self.journal.schema))


def row_key(item: Item) -> str:
    """What makes two rows the same work: every value of the item except where its bytes happen to lie."""
    return stable_id(json.dumps({k: v for k, v in item.items() if k != "at"}, sort_keys=True))


def run_rows(job: RowJob, items: Iterable[Item], execute: "Execute | None" = None) -> Results:
    """Finish every item and return the merged results. Items are unique by `id`; they are worked in their order.

    Raises:
        TooManyRefused: more than `max_error_rate` of the rows were; names the commonest reasons with examples.
    """
    journal = job.journal
    journal.open()
    done = journal.finished()
    batches, keys = _write_todo(job, items, done)
    old = contained(keys, done.keys)
    refused = int(done.refused[np.searchsorted(done.keys, keys[old])].sum())
    pace = Pace(job.function, job.pool.actors, len(keys), kept=int(old.sum()) - refused, refused=refused)
    most = job.max_error_rate * len(keys)
    if len(batches):
        for count in shown(job.stage, pace, (execute or on_ray)(job, batches)):
            pace.add(count)
            if pace.refused > most:
                break
    batches.remove()
    if pace.refused > most:
        raise _too_many(job, journal, keys)
    return journal.results(keys, pace.report())


def _write_todo(job: RowJob, items: Iterable[Item], done: Finished) -> tuple[Batches, Keys]:
    """The unfinished items as batches on disk, and the keys of all items in order."""
    keys, ids = array("Q"), array("Q")

    def unfinished() -> Iterator[Item]:
        for item in items:
            key = int(row_key(item), 16)
            keys.append(key)
            ids.append(int(stable_id(item["id"]), 16))
            place = int(np.searchsorted(done.keys, np.uint64(key)))
            if place == len(done.keys) or done.keys[place] != key:
                yield item

    batches = Batches.write(job.journal.folder, unfinished(), job.pool.batch_size)
    found = np.unique(np.frombuffer(keys, np.uint64)) if keys else np.empty(0, np.uint64)
    assert len(set(ids)) == len(ids) == len(found), f"{job.stage}: an item id comes twice"
    return batches, found


Execute = Callable[[RowJob, Batches], Iterable[Count]]


def in_process(job: RowJob, batches: Batches) -> Iterator[Count]:
    """The same batches without Ray, one after another."""
    runner = Runner(job, job.journal, str(Path.cwd()), batches)
    return (runner({"id": number}) for number in range(len(batches)))


def on_ray(job: RowJob, batches: Batches) -> Iterator[Count]:
    """The batches on a fixed pool of actors; a killed worker or actor is replaced and its batch repeated."""
    start_ray()
    import ray
    from ray.exceptions import RayError

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False  # ours counts rows, kept and refused
    count, actors = len(batches), min(job.pool.actors, len(batches))
    results = ray.data.range(count, override_num_blocks=min(count, BLOCKS_PER_ACTOR * actors)).map(
        Runner,
        fn_constructor_args=(job, job.journal, str(Path.cwd()), batches),
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=job.pool.cpus,
        num_gpus=job.pool.gpus or None,
    )
    try:
        yield from results.iter_rows()
    except RayError as error:
        why = getattr(error, "cause", None) or error
        raise StageFailed(f"{job.function} stopped: {why}; finished rows are kept, run the stage again") from error


def _too_many(job: RowJob, journal: Journal, keys: Keys) -> TooManyRefused:
    refused = [r for key, r in journal.refused() if contained(as_keys([key]), keys)[0]]
    lines = []
    for check, number in Counter(r["check"] for r in refused).most_common(3):
        examples = sorted((r for r in refused if r["check"] == check), key=lambda r: str(r["id"]))[:3]
        lines.append(f"  {number} x {check}: " + "; ".join(f"{r['id']} {r['reason']}" for r in examples))
    what = f"{len(refused)} of {len(keys)} rows were refused, more than {job.stage}.max_error_rate = "
    return TooManyRefused(f"{what}{job.max_error_rate}; correct the inputs, or raise it", "\n".join(lines))
