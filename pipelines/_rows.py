"""The row engine: a plain callable class over many rows on Ray Data, with a journal that survives any kill.

Each finished batch is one Arrow file in `.work/<stage>/<function>-<identity>/`, renamed into place. A row is known by
the hash of its item; the folder by everything else that decides the result. So the next run does only what is missing,
a changed parameter redoes only what it touches, and the merge gives the same bytes whatever the order of arrival.
Items pass through the driver one by one; what waits to be worked lies on disk.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import numpy as np

from lorweb.records import stable_id
from pipelines._batches import Batches, Item
from pipelines._journal import Finished, Journal, Keys, RowsLost, as_keys, contained
from pipelines._node import Seat
from pipelines._pace import Count, Pace, shown
from pipelines._results import Results
from pipelines._runner import Result, RowJob, Runner, Worker, row_key
from pipelines._stage import StageFailed, TooManyRefused, start_ray

__all__ = ["Execute", "Item", "Result", "RowJob", "Runner", "Worker", "in_process", "on_ray", "row_key", "run_rows"]
ROUNDS: Final = 3  # in which rows that the journal loses while a stage runs are worked again
BLOCKS_PER_ACTOR: Final = 64  # each a task, some 10 ms of Ray's own; beyond, a block carries several batches


def run_rows(job: RowJob, items: Iterable[Item], execute: "Execute | None" = None) -> Results:
    """Finish every item and return the merged results. Items are unique by `id`; they are worked in their order.

    Raises:
        TooManyRefused: more than `max_error_rate` of the rows were; names the commonest reasons with examples.
        StageFailed: the work stopped, or finished rows were damaged or removed and cannot be worked again.
    """
    journal = job.journal
    journal.open()
    done = journal.finished()
    batches, keys = _write_todo(job, items, done)
    old = contained(keys, done.keys)
    refused = int(done.refused[np.searchsorted(done.keys, keys[old])].sum())
    pace = Pace(job.function, job.pool.actors, len(keys), kept=int(old.sum()) - refused, refused=refused)
    most = job.max_error_rate * len(keys)
    for _ in range(ROUNDS):
        with _own(journal, batches):
            if len(batches):
                _work(job, pace, most, (execute or on_ray)(job, batches))
            journal.gather()
            if pace.refused > most:
                raise _too_many(job, journal, keys)
            try:
                return journal.results(keys, pace.report())
            except RowsLost as found:
                lost = found
            pace.kept, pace.refused = len(keys) - len(lost.keys) - lost.refused, lost.refused
            batches = _again(job, batches, lost.keys)
        if not len(batches):
            break
    journal.drop(batches.path)
    raise StageFailed(
        f"{job.function} stopped: {len(lost.keys)} finished rows are gone from the journal, whose files were "
        "damaged or removed while the stage ran; the others are kept, run the stage again"
    )


def _work(job: RowJob, pace: Pace, most: float, counts: Iterable[Count]) -> None:
    for count in shown(job.stage, pace, counts):
        if count["fault"]:
            raise StageFailed(f"{job.function} stopped: {count['fault']}; finished rows are kept, run the stage again")
        pace.add(count)
        if pace.refused > most:
            return


@contextmanager
def _own(journal: Journal, batches: Batches) -> Iterator[None]:
    """Work that waits leaves folder and store with the driver that wrote it; what a kill leaves there grows old."""
    try:
        yield
    finally:
        with suppress(OSError):
            journal.drop(batches.path)


def _again(job: RowJob, batches: Batches, lost: Keys) -> Batches:
    """Of these batches, the items whose rows are lost. Rows that an earlier run finished are not among them."""
    items = (item for line in batches for item in json.loads(line))
    wanted = (item for item in items if contained(as_keys([row_key(item)]), lost)[0])
    return Batches.write(job.journal.folder, wanted, job.pool.batch_size)


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
    runner = Runner(job, job.journal, Seat.here(), batches)
    return (runner({"id": number}) for number in range(len(batches)))


def sent_out(job: RowJob, batches: Batches) -> tuple[RowJob, Journal, Seat, Batches]:
    """What a `Runner` on any node is made with; what it needs there lies in the store, where there is one."""
    journal, seat = job.journal, Seat.anywhere(job.reads)
    if seat.store is not None and journal.copies:
        journal.copies.put(batches.path)
    return job, journal, seat, batches


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
        fn_constructor_args=sent_out(job, batches),
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
