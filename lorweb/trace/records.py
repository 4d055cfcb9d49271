"""One record of the data by its id: where it came from, what it was measured at, what was made of it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import read_manifest
from lorweb.records import ANALOGY, DERIVED, PAIR, REJECT, SOURCE, TRAIN_PAIR, load_scores
from lorweb.trace.chain import Chain
from lorweb.trace.training import SOURCE_COLUMNS, rows

_PAIR_COLUMNS: Final = [field.name for field in PAIR if field.name not in ("before", "after")]
_STAGES: Final = ("sources", "candidates", "pairs", "analogies")  # folders with rejects, in the order of the stages


class Records:
    """Rows below a data folder by their ids. Folders are read row group by row group, never whole.

    From one folder to the next only links that hold are followed: an id alone may by now name something else.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain, self.data = chain, chain.data
        for stage in reversed(_STAGES):
            chain.down(stage)

    def find(self, name: str) -> dict[str, Any] | None:
        """What is known of an id, with its `kind`: source, pair, derived pair, analogy, or reject; None for nothing."""
        for kind, look in (
            ("analogy", self.analogy),
            ("pair", self.pair),
            ("source", self.source),
            ("derived pair", self.derived),
        ):
            found = look(name)
            if found is not None:
                return {"kind": kind, **found}
        rejected = self.rejects(name)
        return {"kind": "reject", "id": name, "rejects": rejected} if rejected else None

    def source(self, name: str) -> dict[str, Any] | None:
        """A source image: origin and licence, and how many pairs were made of it, kept, refused and trained on."""
        row = self._first("sources", SOURCE, SOURCE_COLUMNS, name)
        if row is None:
            return None
        return {**row, "pairs": self._made_of(name), "rejects": self.rejects(name)}

    def _made_of(self, source: str) -> dict[str, Any]:
        if not self.chain.holds("candidates", "sources"):
            return {"missing": "data/candidates is not of these sources"}
        made = {r["id"] for r in rows(self.data / "candidates", PAIR, ["id", "source_id"]) if r["source_id"] == source}
        if not self.chain.holds("pairs", "candidates"):
            return {"made": len(made), "missing": "data/pairs is not of these candidates"}
        kept = {r["id"] for r in rows(self.data / "pairs", PAIR, ["id", "source_id"]) if r["source_id"] == source}
        refused = Counter(r["check"] for r in self._rejected("pairs") if r["id"] in made)
        counts = {"made": len(made), "kept": len(kept), "refused": dict(refused)}
        if not self.chain.holds("analogies", "pairs"):
            return {**counts, "missing": "data/analogies is not of these pairs"}
        trained = sum(r["pair"] in kept for r in rows(self.data / "analogies/train", TRAIN_PAIR, ["pair"]))
        return {**counts, "trained_on": trained}

    def pair(self, name: str) -> dict[str, Any] | None:
        """A pair (a, a'): task, editor and source, its scores beside the thresholds, why it left, what uses it."""
        row = self._first("pairs", PAIR, _PAIR_COLUMNS, name)
        kept = row is not None
        row = row or self._first("candidates", PAIR, _PAIR_COLUMNS, name)
        if row is None:
            return None
        rejects = self.rejects(name)
        scores = load_scores(row["scores"]) if kept else {k: v for r in rejects for k, v in r["scores"].items()}
        return {
            **{key: value for key, value in row.items() if key != "scores"},
            "kept": kept,
            "scores": scores,
            "checks": checks_of(self.data, row["edit_type"], scores),
            "rejects": rejects,
            **self._used_in(name),
            "source": self._source_of(row["source_id"], kept),
        }

    def _used_in(self, pair: str) -> dict[str, Any]:
        """Whether it is trained on, and the evaluation analogies that have it."""
        if not self.chain.holds("analogies", "pairs"):
            return {}
        users = rows(self.data / "analogies", ANALOGY, ["id", "split", "exemplar", "query"])
        sides = ((user, side) for user in users for side in ("exemplar", "query") if user[side] == pair)
        return {
            "trained_on": self._first("analogies/train", TRAIN_PAIR, ["pair"], pair) is not None,
            "analogies": [{"id": user["id"], "split": user["split"], "as": side} for user, side in sides],
        }

    def _source_of(self, source: str, kept: bool) -> dict[str, Any]:
        steps = [("pairs", "candidates")] if kept else []
        if not all(self.chain.holds(*step) for step in [*steps, ("candidates", "sources")]):
            return {"id": source, "missing": "data/sources is not known to be what the pair was made from"}
        return self.source(source) or {"id": source, "missing": "not in data/sources"}

    def analogy(self, name: str) -> dict[str, Any] | None:
        """An evaluation analogy, with both of its pairs."""
        row = self._first("analogies", ANALOGY, ANALOGY.names, name)
        if row is None:
            return None
        if not self.chain.holds("analogies", "pairs"):
            return {**row, "missing": "data/pairs is not what the analogy was made from"}
        return {**row, "exemplar": self._pair_or_id(row["exemplar"]), "query": self._pair_or_id(row["query"])}

    def derived(self, name: str) -> dict[str, Any] | None:
        """A training pair whose images are sides of other pairs, with those."""
        row = self._first("analogies/derived", DERIVED, DERIVED.names, name)
        if row is None:
            return None
        if not self.chain.holds("analogies", "pairs"):
            return {**row, "missing": "data/pairs is not what the pair was derived from"}
        return {
            **row,
            "before_pair": self._pair_or_id(row["before_pair"]),
            "after_pair": self._pair_or_id(row["after_pair"]),
        }

    def rejects(self, name: str) -> list[dict[str, Any]]:
        """Every refusal of an id, in the order of the stages, scores included."""
        found = (row for stage in _STAGES for row in self._rejected(stage) if row["id"] == name)
        return [{**row, "scores": load_scores(row["scores"])} for row in found]

    def _rejected(self, stage: str) -> Iterator[dict[str, Any]]:
        return rows(self.data / stage / "rejects", REJECT, REJECT.names)

    def _pair_or_id(self, name: str) -> dict[str, Any]:
        return self.pair(name) or {"id": name, "missing": "neither in data/pairs nor in data/candidates"}

    def _first(self, folder: str, schema: Any, columns: list[str], name: str) -> dict[str, Any] | None:
        key = schema.names[0]
        return next((row for row in rows(self.data / folder, schema, columns) if row[key] == name), None)


def checks_of(data: Path, edit_type: str, scores: dict[str, float]) -> list[dict[str, Any]]:
    """The filter's checks on an edit type as its run had them, each with the value and whether it holds.

    Empty where data/pairs is not here. A score that was not measured holds nothing.
    """
    try:
        asked = read_manifest(data / "pairs")["params"].get("checks", [])
    except (OSError, ValueError, KeyError):
        return []
    found = []
    for check in asked:
        if check["edit_types"] and edit_type not in check["edit_types"]:
            continue
        value, least, most = scores.get(check["score"]), check["min"], check["max"]
        holds = value is not None and (least is None or value >= least) and (most is None or value <= most)
        found.append({"score": check["score"], "value": value, "min": least, "max": most, "holds": holds})
    return found
