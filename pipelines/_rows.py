"""The row engine: a plain callable class over many rows on Ray Data, with a journal that survives any kill.

Each finished batch is one Parquet file in `.work/<stage>/<function>-<identity>/`, renamed into place. A row is known by
the hash of its item; the folder by everything else that decides the result. So the next run does only what is missing,
a changed parameter redoes only what it touches, and the merge gives the same bytes whatever the order of arrival.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lorweb.config import Pool
from lorweb.data.checks import Refusal, reject
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id
from pipelines._journal import Journal, Results
from pipelines._stage import StageFailed, code_sha256, start_ray

Item = dict[str, Any]  # JSON values only; `id` names it, and it holds or hashes every input of the row
Result = dict[str, Any] | Rejected
Worker = Callable[[list[Item]], list[Result]]
MAX_BLOCKS: Final = 1000  # Ray Data plans one task per block; beyond this, a block carries several batches


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

    @property
    def journal(self) -> Journal:
        return Journal(self.stage, f"{self.function}-{stable_id(*self.identity, code_sha256(self.stage))}", self.schema)


class Runner:
    """The actor: runs one batch after another and journals each before it reports.

    It works in the project root, wherever Ray started it: paths in parameters are relative to that.
    """

    def __init__(self, job: RowJob, root: str) -> None:
        if not Path(root, job.journal.folder).is_dir():
            raise StageFailed(f"no {root} on this node; every node of the cluster needs the project folder at one path")
        os.chdir(root)
        self.job, self.folder = job, job.journal.folder
        self.worker = job.worker(*job.arguments)

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        items: list[Item] = json.loads(row["items"])
        path = self.folder / f"rows-{stable_id(*map(row_key, items))}.parquet"
        if not path.exists():  # there already: this task died after its work, and is being repeated
            self._write(path, items, self._results(items))
        refused = pq.read_table(path, columns=["refused"])["refused"]
        return {"kept": refused.null_count, "refused": len(refused) - refused.null_count}

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
            text = " ".join(str(error).split())[:200]
            return Rejected("error", f"{type(error).__name__}: {text}")

    def _write(self, path: Path, items: list[Item], results: list[Result]) -> None:
        rows = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Rejected):
                refused = reject(Refusal(item["id"], self.job.stage, {}), result)
                rows.append({"key": row_key(item), "refused": json.dumps(refused, sort_keys=True)})
            else:
                rows.append({"key": row_key(item), **result})
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            pq.write_table(pa.Table.from_pylist(rows, self.job.journal.schema), partial, compression="NONE")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def row_key(item: Item) -> str:
    """What makes two rows the same work: every value of the item except where its bytes happen to lie."""
    return stable_id(json.dumps({k: v for k, v in item.items() if k != "at"}, sort_keys=True))


def run_rows(job: RowJob, items: Sequence[Item], execute: "Execute | None" = None) -> Results:
    """Finish every item and return the merged results. Items are unique by `id`.

    Raises:
        StageFailed: more than `max_error_rate` of the rows were refused; names the commonest reasons with examples.
    """
    journal = job.journal
    journal.open()
    ordered = {row_key(item): item for item in sorted(items, key=lambda item: str(item["id"]))}
    assert len({item["id"] for item in ordered.values()}) == len(items), f"{job.stage}: an item id comes twice"
    done = journal.finished()
    todo = [item for key, item in ordered.items() if key not in done]
    counts = Counter(refused=sum(done[key] for key in ordered if key in done))
    counts["kept"] = len(items) - len(todo) - counts["refused"]
    size = job.pool.batch_size
    batches = [json.dumps(todo[i : i + size]) for i in range(0, len(todo), size)]
    if batches:
        for count in _shown(job, (execute or on_ray)(job, batches), counts, len(items)):
            counts.update(count)
            if counts["refused"] > job.max_error_rate * len(items):
                break
    if counts["refused"] > job.max_error_rate * len(items):
        raise StageFailed(_too_many(job, journal, ordered))
    return journal.results(ordered)


Execute = Callable[[RowJob, list[str]], Iterable[dict[str, int]]]


def in_process(job: RowJob, batches: list[str]) -> Iterator[dict[str, int]]:
    """The same batches without Ray, one after another."""
    runner = Runner(job, str(Path.cwd()))
    return (runner({"items": batch}) for batch in batches)


def on_ray(job: RowJob, batches: list[str]) -> Iterator[dict[str, int]]:
    """The batches on a fixed pool of actors; a killed worker or actor is replaced and its batch repeated."""
    start_ray()
    import ray
    from ray.exceptions import RayError

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours counts rows, kept and refused
    context.print_on_execution_start = False
    data = ray.data.from_items([{"items": b} for b in batches], override_num_blocks=min(len(batches), MAX_BLOCKS))
    results = data.map(
        Runner,
        fn_constructor_args=(job, str(Path.cwd())),
        compute=ray.data.ActorPoolStrategy(size=min(job.pool.actors, len(batches))),
        num_cpus=job.pool.cpus,
        num_gpus=job.pool.gpus or None,
    )
    try:
        yield from results.iter_rows()
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        raise StageFailed(f"{job.function} stopped: {cause}; finished rows are kept, run the stage again") from error


def _shown(job: RowJob, counts: Iterable[dict[str, int]], start: Counter[str], total: int) -> Iterator[dict[str, int]]:
    """Pass counts through a progress bar (only where somebody watches)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(f"{job.stage} {job.function}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    state = TextColumn("kept {task.fields[kept]}, refused {task.fields[refused]}")
    with Progress(*columns, state, console=console, disable=not console.is_terminal) as bar:
        kept, refused = start["kept"], start["refused"]
        task = bar.add_task("", total=total, completed=kept + refused, kept=kept, refused=refused)
        for count in counts:
            kept, refused = kept + count["kept"], refused + count["refused"]
            bar.update(task, completed=kept + refused, kept=kept, refused=refused)
            yield count


def _too_many(job: RowJob, journal: Journal, ordered: dict[str, Item]) -> str:
    refused = sorted((r for r in journal.refused() if r["key"] in ordered), key=lambda r: str(r["id"]))
    lines = []
    for check, number in Counter(r["check"] for r in refused).most_common(3):
        examples = [r for r in refused if r["check"] == check][:3]
        lines.append(f"  {number} x {check}: " + "; ".join(f"{r['id']} {r['reason']}" for r in examples))
    return (
        f"{len(refused)} of {len(ordered)} rows were refused, more than {job.stage}.max_error_rate = "
        f"{job.max_error_rate}; correct the inputs, or raise it:\n" + "\n".join(lines)
    )
