"""Score, check, drop duplicates -> data/pairs. Scores are cached by scorer; thresholds apply afterwards."""

import csv
import io
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lorweb.config import Filter, load_params
from lorweb.data.checks import Refusal, first_failure, reject, survival
from lorweb.data.decode import decode_rgb
from lorweb.data.dedup import HashedPair, duplicates
from lorweb.data.directions import agreement
from lorweb.data.manifest import Manifest, fingerprint, write_manifest
from lorweb.data.rejects import Rejected
from lorweb.data.scores import SafetyNet, score_pairs
from lorweb.data.shards import RowReader, iter_tables, read_index, write_rows, write_shards
from lorweb.data.tasks import TASKS, read_tasks
from lorweb.records import LOOK, PAIR, REJECT, dump_scores, load_scores
from pipelines._metrics import count
from pipelines._rows import Execute, Item, Result, RowJob, run_rows
from pipelines._stage import publishing, stage, write_text

VERSION: Final = 1
OUT, CANDIDATES, SURVIVAL = Path("data/pairs"), Path("data/candidates"), Path("metrics/filter_survival.csv")
MAX_PIXELS: Final = 1 << 28  # candidates are our own images; the limit only stops a damaged header
SCORED: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("scores", pa.string(), nullable=False),
        pa.field("direction", pa.large_binary(), nullable=False),  # float32, feature(a') - feature(a)
        pa.field("before_hash", pa.string(), nullable=False),  # 64-bit perceptual hashes as hex
        pa.field("after_hash", pa.string(), nullable=False),
    ]
)


class ScorePairs:
    """The worker: candidate pairs -> scores, change direction, perceptual hashes."""

    def __init__(self, candidates: str) -> None:
        self.rows = RowReader(Path(candidates), PAIR, ["id", "before", "after"])
        self.net = SafetyNet()

    def __call__(self, items: list[Item]) -> list[Result]:
        pairs = [self.rows(item["at"]) for item in items]
        before, after = ([decode_rgb(pair[side], MAX_PIXELS) for pair in pairs] for side in ("before", "after"))
        found = score_pairs(self.net, before, after)
        return [
            {
                "id": pair["id"],
                "scores": dump_scores(found.scores[i]),
                "direction": np.asarray(found.direction[i], dtype="<f4").tobytes(),
                "before_hash": found.phash[i][0],
                "after_hash": found.phash[i][1],
            }
            for i, pair in enumerate(pairs)
        ]


def decide(
    cfg: Filter, facts: Mapping[str, Any], scores: Mapping[str, dict[str, float]], hashed: list[HashedPair]
) -> dict[str, Rejected]:
    """Why each pair that leaves does: the first failing check, or else a pair of its task that it repeats."""
    why: dict[str, Rejected] = {}
    for name, own in scores.items():
        failed = first_failure(facts[name]["edit_type"], own, cfg.checks)
        if failed is not None:
            why[name] = failed
    for name, kept in duplicates((pair for pair in hashed if pair.id not in why), cfg.duplicate_distance).items():
        why[name] = Rejected("duplicate", f"looks like pair {kept} of the same task", None, cfg.duplicate_distance)
    return why


def kept_pairs(scores: Mapping[str, dict[str, float]], gone: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Candidates that stay, with their scores filled in."""
    place = PAIR.get_field_index("scores")
    for table in iter_tables(CANDIDATES, PAIR):
        names = table["id"].to_pylist()
        kept = table.filter(pa.array([n in scores and n not in gone for n in names], pa.bool_()))
        filled = pa.array([dump_scores(scores[n]) for n in kept["id"].to_pylist()], pa.string())
        yield kept.set_column(place, PAIR.field(place), filled)


def look_of(pair: HashedPair) -> dict[str, str]:
    """A row of `records.LOOK`."""
    return {"id": pair.id, "before_hash": f"{pair.before:016x}", "after_hash": f"{pair.after:016x}"}


Scored = tuple[dict[str, dict[str, float]], list[HashedPair], list[dict[str, Any]], dict[str, Any]]


def scored(cfg: Filter, items: list[Item], execute: Execute | None) -> Scored:
    """Scores by pair id (with `direction`), perceptual hashes, and the rejects of pairs that could not be scored."""
    task = {item["id"]: item["task"] for item in items}
    job = RowJob(
        stage="filter",
        function="score",
        worker=ScorePairs,
        arguments=(str(CANDIDATES.resolve()),),
        identity=(VERSION, SafetyNet().revision),
        schema=SCORED,
        pool=cfg.pool,
        max_error_rate=cfg.max_error_rate,
    )
    results = run_rows(job, items, execute)

    def directions() -> Iterator[tuple[str, str, np.ndarray]]:
        for table in results.tables(columns=["id", "direction"]):
            for row in table.to_pylist():
                yield row["id"], task[row["id"]], np.frombuffer(row["direction"], dtype="<f4")

    agrees = agreement(directions)
    rows = results.index(["id", "scores", "before_hash", "after_hash"])
    scores = {
        row["id"]: {
            **load_scores(row["scores"]),
            "direction": agrees[row["id"]].direction,
            "magnitude": agrees[row["id"]].magnitude,
        }
        for row in rows
    }
    hashed = [HashedPair(r["id"], task[r["id"]], int(r["before_hash"], 16), int(r["after_hash"], 16)) for r in rows]
    return scores, hashed, results.rejects, results.pace


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    cfg = params.filter
    with stage("filter") as metrics:
        read_tasks(CANDIDATES)  # before hours of scoring: they go on with the pairs
        items = read_index(CANDIDATES, PAIR, ["id", "task", "edit_type"], digests=["before", "after"])
        items.sort(key=lambda item: item["before_sha256"])  # edits of one image side by side: it is scored once
        facts = {item["id"]: item for item in items}
        scores, hashed, unscored, pace = scored(cfg, items, execute)
        gone = decide(cfg, facts, scores, hashed)
        rejects = unscored + [reject(Refusal(name, "filter", scores[name]), why) for name, why in gone.items()]
        with publishing(OUT, "filter") as folder:
            rows = write_shards(kept_pairs(scores, gone), folder, PAIR)
            write_rows(rejects, folder / "rejects", REJECT)
            write_rows([look_of(pair) for pair in hashed if pair.id not in gone], folder / "look", LOOK)
            shutil.copyfile(CANDIDATES / TASKS, folder / TASKS)
            recipe = cfg.model_dump(mode="json", include={"checks", "duplicate_distance"})
            write_manifest(folder, Manifest(rows, {"candidates": fingerprint(CANDIDATES)}, recipe, {"score": VERSION}))
        curve = survival(((facts[name]["edit_type"], own) for name, own in scores.items()), cfg.checks)
        write_text(SURVIVAL, as_csv(curve))
        by_type: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rejects:
            by_type[row["check"]][facts[row["id"]]["edit_type"]] += 1
        metrics.update(count(len(items), rows, rejects, {"score": pace}), rejected_by_edit_type=by_type)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a header; an empty table keeps the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["check", "edit_type", "threshold", "kept"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    main()
