"""What a model was trained on: pairs with their scores, and the source images they were made of with their licences."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lorweb.data.shards import iter_tables
from lorweb.records import DERIVED, PAIR, SOURCE, TRAIN_PAIR, load_scores

SOURCE_COLUMNS: Final = [field.name for field in SOURCE if field.name != "image"]
_PAIR_COLUMNS: Final = ["id", "task", "edit_type", "source_id", "licence", "editor", "editor_revision", "scores"]


def rows(folder: Path, schema: pa.Schema, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of a folder without its images, a row group at a time; none where there is no such folder."""
    if folder.is_dir() and any(folder.glob("part-*.parquet")):
        for table in iter_tables(folder, schema, columns):
            yield from table.to_pylist()


@dataclass
class Trained:
    """The pairs that training draws from; `used`: those whose images it sees, `derived`: built of others' sides."""

    used: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    pairs: int = 0
    derived: int = 0


def trained_pairs(analogies: Path) -> Trained:
    """Of data/analogies, without its val and test analogies: those are looked at, and never learnt from."""
    built = {row["pair"]: row for row in rows(analogies / "derived", DERIVED, DERIVED.names)}
    found = Trained()
    for row in rows(analogies / "train", TRAIN_PAIR, ["pair", "task", "subject"]):
        found.pairs += 1
        found.tasks.add(row["task"])
        found.subjects.add(row["subject"])
        own = built.get(row["pair"])
        found.derived += own is not None
        found.used |= {own["before_pair"], own["after_pair"]} if own else {row["pair"]}
    return found


@dataclass
class _Span:
    count: int = 0
    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)

    def tree(self) -> dict[str, float]:
        return {"mean": self.total / self.count, "least": self.low, "most": self.high, "pairs": self.count}


@dataclass(frozen=True)
class PairSummary:
    """Counts over pairs, for JSON in `told`; `per_source`: source id -> number of its pairs."""

    told: dict[str, Any]
    per_source: Counter[str]
    absent: int  # pairs that training names and data/pairs has not


def summarise_pairs(data: Path, used: set[str], checks: list[dict[str, Any]]) -> PairSummary:
    """Editors, edit types, licences, scores and the thresholds that these pairs have passed."""
    per_source: Counter[str] = Counter()
    types: Counter[str] = Counter()
    editors: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    scores: dict[str, _Span] = {}
    for row in rows(data / "pairs", PAIR, _PAIR_COLUMNS):
        if row["id"] not in used:
            continue
        per_source[row["source_id"]] += 1
        types[row["edit_type"]] += 1
        editors[f"{row['editor']} {row['editor_revision']}".strip()] += 1
        licences[row["licence"]] += 1
        for name, value in load_scores(row["scores"]).items():
            scores.setdefault(name, _Span()).add(value)
    told = {
        "edit_types": _counts(types),
        "editors": _counts(editors),
        "licences": _counts(licences),
        "scores": {name: span.tree() for name, span in sorted(scores.items())},
        "checks": checks,
    }
    return PairSummary(told, per_source, len(used) - sum(per_source.values()))


def source_list(data: Path, pairs_of: Counter[str]) -> dict[str, Any]:
    """Sources by id with their licences, counts of both; `pairs_of`: source id -> number of pairs made of it."""
    found = [
        {**row, "pairs": pairs_of[row["id"]]}
        for row in rows(data / "sources", SOURCE, SOURCE_COLUMNS)
        if row["id"] in pairs_of
    ]
    return {
        "count": len(found),
        "licences": _counts(Counter(row["licence"] for row in found)),
        "origins": _counts(Counter(_reader(row["origin"]) for row in found)),
        "categories": _counts(Counter(row["category"] for row in found)),
        "list": found,
        "absent": sorted(set(pairs_of) - {row["id"] for row in found}),
    }


def _reader(origin: str) -> str:
    return origin.partition(":")[0]


def _counts(found: Counter[str] | Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(found).items(), key=lambda item: (-item[1], item[0])))
