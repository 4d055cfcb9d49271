"""Filter, first part: what is measured of candidate pairs, kept by scorer, and read again as evidence."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lorweb.config import Filter
from lorweb.data.decide import Evidence
from lorweb.data.decode import decode_rgb
from lorweb.data.scores import SafetyNet, score_pairs
from lorweb.data.shards import RowReader
from lorweb.records import PAIR, dump_scores, load_scores
from pipelines._results import Results
from pipelines._rows import Execute, Item, Result, RowJob, run_rows

VERSION: Final = 2
MAX_PIXELS: Final = 1 << 28  # candidates are our own images; the limit only stops a damaged header
SCORED: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("scores", pa.string(), nullable=False),
        pa.field("change", pa.large_binary(), nullable=False),  # float16 [D], feature(a') - feature(a)
        pa.field("before", pa.large_binary(), nullable=False),  # float16 [D], layout features of a
        pa.field("after", pa.large_binary(), nullable=False),  # of a'
        pa.field("before_hash", pa.string(), nullable=False),  # 64-bit perceptual hashes as hex
        pa.field("after_hash", pa.string(), nullable=False),
    ]
)
Vector = NDArray[np.float32]


class ScorePairs:
    """The worker: candidate pairs -> scores, features, perceptual hashes."""

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
                "change": packed(found.direction[i]),
                "before": packed(found.layout[0][i]),
                "after": packed(found.layout[1][i]),
                "before_hash": found.phash[i][0],
                "after_hash": found.phash[i][1],
            }
            for i, pair in enumerate(pairs)
        ]


def packed(vector_D: Vector) -> bytes:
    """Features as they are stored: float16."""
    return np.asarray(vector_D, dtype="<f2").tobytes()


def unpacked(data: bytes) -> Vector:
    """The inverse of `packed`, float32."""
    return np.frombuffer(data, dtype="<f2").astype(np.float32)


@dataclass(frozen=True)
class Scored:
    """Evidence of all pairs that could be measured, the rejects of the others, and how fast it went."""

    evidence: Evidence
    rejects: list[dict[str, Any]]
    pace: Mapping[str, Any]


def measure(cfg: Filter, candidates: Path, items: list[Item], execute: Execute | None) -> Scored:
    """Measure all candidates, as far as earlier runs have not."""
    job = RowJob(
        stage="filter",
        function="score",
        worker=ScorePairs,
        arguments=(str(candidates.resolve()),),
        identity=(VERSION, SafetyNet().revision),
        schema=SCORED,
        pool=cfg.pool,
        max_error_rate=cfg.max_error_rate,
    )
    results = run_rows(job, items, execute)
    rows = results.index(["id", "scores", "before_hash", "after_hash"])
    evidence = Evidence(
        scores={row["id"]: load_scores(row["scores"]) for row in rows},
        changes={"safety": _changes(results)},
        layout=_layout(results),
        content=_layout(results),
        hashes={row["id"]: (int(row["before_hash"], 16), int(row["after_hash"], 16)) for row in rows},
    )
    return Scored(evidence, results.rejects, results.pace)


def _changes(results: Results) -> Callable[[], Iterator[tuple[str, Vector]]]:
    def stream() -> Iterator[tuple[str, Vector]]:
        for table in results.tables(columns=["id", "change"]):
            for row in table.to_pylist():
                yield row["id"], unpacked(row["change"])

    return stream


def _layout(results: Results) -> Callable[[], Iterator[tuple[str, Vector, Vector]]]:
    def stream() -> Iterator[tuple[str, Vector, Vector]]:
        for table in results.tables(columns=["id", "before", "after"]):
            for row in table.to_pylist():
                yield row["id"], unpacked(row["before"]), unpacked(row["after"])

    return stream
