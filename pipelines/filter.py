"""Score, check, drop duplicates -> data/pairs. Scores are cached by scorer; thresholds apply afterwards."""

import csv
import io
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lorweb.config import load_params
from lorweb.data.checks import Refusal, reject, survival
from lorweb.data.decide import Evidence, PairPlace, decide, task_scores
from lorweb.data.decode import decode_rgb
from lorweb.data.filter_page import FilterPage, Pair, bound_rows, counts_of, render, survival_charts
from lorweb.data.manifest import Manifest, fingerprint, write_manifest
from lorweb.data.shards import RowReader, iter_tables, read_index, write_rows, write_shards
from lorweb.data.tasks import TASKS, read_tasks
from lorweb.records import LOOK, NOTE, PAIR, REJECT, dump_scores, pack_features
from pipelines._filter_scores import VERSION, measure
from pipelines._filter_worker import MAX_PIXELS
from pipelines._launch import hand_over
from pipelines._metrics import count
from pipelines._results import CHUNK
from pipelines._rows import Execute
from pipelines._stage import publishing, stage, write_text

PAGE: Final = Path("reports/filter.html")
OUT, CANDIDATES, SURVIVAL = Path("data/pairs"), Path("data/candidates"), Path("metrics/filter_survival.csv")
FACTS: Final = ("id", "task", "edit_type", "source_id", "subject")


def kept_pairs(scores: Mapping[str, dict[str, float]], gone: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Candidates that stay, with their scores filled in."""
    place = PAIR.get_field_index("scores")
    for table in iter_tables(CANDIDATES, PAIR):
        names = table["id"].to_pylist()
        kept = table.filter(pa.array([n in scores and n not in gone for n in names], pa.bool_()))
        filled = pa.array([dump_scores(scores[n]) for n in kept["id"].to_pylist()], pa.string())
        yield kept.set_column(place, PAIR.field(place), filled)


def looks(evidence: Evidence, gone: Mapping[str, Any]) -> Iterator[pa.Table]:
    """What tells whether pairs that stay are alike, as tables of `records.LOOK`."""
    hashed = (evidence.hashes[name] for name in sorted(evidence.hashes) if name not in gone)
    if evidence.content is None:
        content = ((name, b"") for name in sorted(evidence.hashes) if name not in gone)
    else:
        content = ((name, pack_features(before_D)) for name, before_D, _ in evidence.content() if name not in gone)
    rows = (
        {"id": name, "before_hash": f"{before:016x}", "after_hash": f"{after:016x}", "content": features}
        for (before, after), (name, features) in zip(hashed, content, strict=True)
    )
    while chunk := list(islice(rows, CHUNK)):
        yield pa.Table.from_pylist(chunk, LOOK)


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    cfg = params.filter
    with stage("filter") as metrics:
        read_tasks(CANDIDATES)  # before hours of scoring: they go on with the pairs
        items = read_index(CANDIDATES, PAIR, list(FACTS), digests=["before", "after"])
        items.sort(key=lambda item: (item["before_sha256"], item["id"]))  # edits of one image side by side: scored once
        places = {item["id"]: PairPlace(*(item[name] for name in FACTS[1:])) for item in items}
        scored = measure(cfg, CANDIDATES, items, execute)
        evidence = scored.evidence
        scores = task_scores(cfg, evidence, places)
        gone = decide(cfg, evidence, places, scores)
        rejects = scored.rejects + [reject(Refusal(name, "filter", scores[name]), why) for name, why in gone.items()]
        with publishing(OUT, "filter") as folder:
            rows = write_shards(kept_pairs(scores, gone), folder, PAIR)
            write_rows(rejects, folder / "rejects", REJECT)
            write_shards(looks(evidence, gone), folder / "look", LOOK)
            write_notes(scored.notes(), folder / "notes")
            shutil.copyfile(CANDIDATES / TASKS, folder / TASKS)
            code = {"score": VERSION, **scored.revisions}
            recipe = cfg.model_dump(mode="json", include={"relative", "checks", "best", "duplicates"})
            write_manifest(folder, Manifest(rows, {"candidates": fingerprint(CANDIDATES)}, recipe, code))
        curve = survival(((places[name].edit_type, own) for name, own in scores.items()), cfg.checks)
        write_text(SURVIVAL, as_csv(curve))
        refused = {row["id"]: row["check"] for row in rejects}
        read = image_reader({item["id"]: item["at"] for item in items})
        shown = bound_rows(cfg.checks, scores, places, refused, read)
        write_text(PAGE, render(FilterPage(counts_of(places, refused), survival_charts(curve), shown)))
        by_type: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rejects:
            by_type[row["check"]][places[row["id"]].edit_type] += 1
        metrics.update(count(len(items), rows, rejects, scored.pace), rejected_by_edit_type=by_type)


def write_notes(tables: Iterator[pa.Table], folder: Path) -> None:
    """What scorers said in words, where they said anything."""
    first = next(tables, None)
    if first is not None:
        write_shards(chain([first], tables), folder, NOTE)


def image_reader(at: Mapping[str, Any]) -> Callable[[str], Pair]:
    """(before, after) of a candidate by its id."""
    rows = RowReader(CANDIDATES, PAIR, ["before", "after"])

    def read(name: str) -> Pair:
        row = rows(at[name])
        return decode_rgb(row["before"], MAX_PIXELS), decode_rgb(row["after"], MAX_PIXELS)

    return read


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a header; an empty table keeps the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["check", "edit_type", "threshold", "kept"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    hand_over("filter")
    main()
