"""Source images from packages, folders and data sets -> data/sources; pairs that exist -> data/sources/given too."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lorweb.config import Collect, load_params
from lorweb.data.checks import Refusal, reject
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.readers import build_reader
from lorweb.data.rejects import Rejected
from lorweb.data.shards import write_rows, write_shards
from lorweb.records import GIVEN, REJECT, SOURCE, stable_id
from lorweb.storage.fetched import portable
from pipelines._collect_worker import GIVEN_FIELDS, READ, ReadSources
from pipelines._launch import hand_over
from pipelines._metrics import count
from pipelines._results import Results
from pipelines._rows import Execute, Item, RowJob, run_rows
from pipelines._stage import publishing, stage

VERSION: Final = 1  # goes up when the same parameters would give other sources
OUT: Final = Path("data/sources")


def locate(cfg: Collect) -> Iterator[Item]:
    """Every location of every reader, named as its source will be named; nothing of it is decoded.

    A file is known by its size and time of change too, so that a replaced file is read again. What comes twice in one
    reader is a reject (check `duplicate_name`). Raises ValueError where two readers give one source.
    """
    seen: dict[str, int] = {}
    turns: Counter[str] = Counter()
    for number, reader in enumerate(cfg.readers):
        decides = stable_id(reader.rows_depend_on())
        for place in build_reader(reader).locations():
            origin, fault = place.origin, place.fault
            name = stable_id(origin)
            if seen.get(name, number) != number:
                raise ValueError(f"two entries of collect.readers give the source '{origin}'; rename or drop one")
            while name in seen:
                turns[place.origin] += 1
                fault = ("duplicate_name", f"'{place.origin}' comes more than once; the first stays")
                origin = f"{place.origin} ({turns[place.origin] + 1})"
                name = stable_id(origin)
            seen[name] = number
            known = dict(place.known) if "file" in place.known else {**place.known, "file": _state(place.uri)}
            facts = {"id": name, "origin": origin, "reader": decides, "known": known, "fault": fault}
            yield {**facts, "at": [number, portable(place.uri)]}


def _state(uri: str) -> list[int]:
    path = Path(uri)
    if not uri or not path.is_file():
        return []
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def repeated(rows: list[dict[str, Any]]) -> dict[str, Rejected]:
    """Sources whose bytes another already brought: {id: why}. Rows come in order of id, the first stays.

    One photo may be the before image of many pairs, so a pair is repeated only where its after image and its task are
    too; and a source that is no pair's gives way to the pair that holds it.
    """
    first: dict[Any, str] = {}
    found: dict[str, Rejected] = {}
    paired = [row for row in rows if row["given_task"] is not None]
    for row in paired:
        kept = first.setdefault((row["sha256"], row["given_task"], row["given_sha256"]), row["id"])
        if kept != row["id"]:
            found[row["id"]] = Rejected("duplicate", f"the same pair of the same task, byte for byte, as {kept}")
        first.setdefault(row["sha256"], kept)
    for row in (row for row in rows if row["given_task"] is None):
        kept = first.setdefault(row["sha256"], row["id"])
        if kept != row["id"]:
            found[row["id"]] = Rejected("duplicate", f"the same image, byte for byte, as source {kept}")
    return found


def given_tables(results: Results, without: Mapping[str, Rejected]) -> Iterator[pa.Table]:
    """The rows of `records.GIVEN`, in chunks."""
    for table in results.tables(without=without, columns=["id", *GIVEN_FIELDS]):
        pairs = table.filter(pc.is_valid(table["given_task"]))
        yield pairs.rename_columns(["source", *(f.name for f in GIVEN_FIELDS.values())]).cast(GIVEN)


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    cfg = params.collect
    with stage("collect") as metrics:
        recipe = cfg.model_dump(mode="json", include={"size", "max_pixels", "readers"})
        job = RowJob(
            stage="collect",
            function="read",
            worker=ReadSources,
            arguments=(cfg.readers, cfg.size, cfg.max_pixels),
            identity=(VERSION, cfg.size, cfg.max_pixels),
            schema=READ,
            pool=cfg.pool,
            max_error_rate=cfg.max_error_rate,
        )
        results = run_rows(job, locate(cfg), execute)  # listed as it is worked off, never whole in memory
        facts = results.index(["id", "sha256", "given_task", "given_sha256"])
        twice = repeated(facts)
        rejects = results.rejects + [reject(Refusal(i, "collect", {}), why) for i, why in twice.items()]
        tasks = [row["given_task"] for row in facts if row["given_task"] is not None and row["id"] not in twice]
        with publishing(OUT, "collect") as folder:
            rows = write_shards(results.tables(without=twice, columns=SOURCE.names), folder, SOURCE)
            if tasks:
                write_shards(given_tables(results, twice), folder / "given", GIVEN)
            write_rows(rejects, folder / "rejects", REJECT)
            write_manifest(folder, Manifest(rows, {}, recipe, {"read": VERSION}))
        given = {"pairs": len(tasks), "tasks": len(set(tasks))}
        metrics.update(count(rows + len(rejects), rows, rejects, {"read": results.pace}), given=given)


if __name__ == "__main__":
    hand_over("collect")
    main()
