"""Filter: the worker of one scorer, and how its answers are kept in its journal."""

import inspect
import json
from pathlib import Path
from typing import Final

import pyarrow as pa
from PIL import Image

from lorweb.data.decode import decode_rgb
from lorweb.data.plugins import load_class
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import SIDES, PairImages, Scored, Scorer, ScorerFacts, checked
from lorweb.data.scorers.build import build_scorer
from lorweb.data.scorers.entries import ScorerConfig
from lorweb.data.shards import RowReader
from lorweb.records import PAIR, dump_scores, pack_features
from pipelines._rows import Item, Result

MAX_PIXELS: Final = 1 << 28  # candidates are our own images; the limit only stops a damaged header
TEXTS: Final = ("scores", "hashes", "notes", "lacks")  # JSON
REGISTRY: Final = "lorweb/data/scorers/build.py"
MODULES: Final = {"dino": "features.py"}  # of kinds that have no module of their own name


def picked(entry: ScorerConfig) -> dict[str, str]:
    """The code of an entry's own kind, for `RowJob.picked`."""
    if entry.scorer == "python":
        return {REGISTRY: inspect.getsourcefile(load_class(entry.class_, f"scorer '{entry.class_}'")) or ""}
    return {REGISTRY: f"lorweb/data/scorers/{MODULES.get(entry.scorer, f'{entry.scorer}.py')}"}


def schema_of(facts: ScorerFacts) -> pa.Schema:
    """How the answers of a scorer are kept: texts, and a column of float16 for each of its features."""
    texts = [pa.field(name, pa.string(), nullable=False) for name in ("id", *TEXTS)]
    return pa.schema([*texts, *(pa.field(name, pa.large_binary(), nullable=False) for name in facts.vectors)])


class ScorePairs:
    """The worker: candidate pairs -> the answers of one scorer."""

    def __init__(self, candidates: str, entry: ScorerConfig, facts: ScorerFacts) -> None:
        self.rows = RowReader(Path(candidates), PAIR, ["before", "after", "instruction", "edit_type"])
        self.facts, self.fault = facts, ""
        self.scorer: Scorer | None = None
        try:
            self.scorer = build_scorer(entry, facts)
        except (ValueError, OSError) as error:  # told row by row: what an actor raises while it is made is hard to read
            self.fault = str(error)

    def __call__(self, items: list[Item]) -> list[Result]:
        if self.scorer is None:
            return [Rejected("error", self.fault) for _ in items]
        decoded: dict[str, Image.Image] = {}
        pairs = [self._pair(item, decoded) for item in items]
        fit = [pair for pair in pairs if not isinstance(pair, Rejected)]
        answers = iter(checked(self.scorer(fit), fit, self.facts) if fit else [])
        results = [pair if isinstance(pair, Rejected) else next(answers) for pair in pairs]
        return [self._row(item, result) for item, result in zip(items, results, strict=True)]

    def _pair(self, item: Item, decoded: dict[str, Image.Image]) -> PairImages | Rejected:
        """The images of one item; `decoded` keeps those that pairs of the batch share, by their hashes."""
        row = self.rows(item["at"])
        try:
            for side in SIDES:
                if item[f"{side}_sha256"] not in decoded:
                    decoded[item[f"{side}_sha256"]] = decode_rgb(row[side], MAX_PIXELS)
        except Rejected as why:
            return why
        before, after = (decoded[item[f"{side}_sha256"]] for side in SIDES)
        return PairImages(before, after, row["instruction"], item.get("caption", ""), row["edit_type"])

    def _row(self, item: Item, answer: Scored | Rejected) -> Result:
        if isinstance(answer, Rejected):
            return answer
        lacks = answer.lacks
        told = None if lacks is None else [lacks.check, lacks.reason, lacks.value, lacks.threshold]
        return {
            "id": item["id"],
            "scores": dump_scores(dict(answer.scores)),
            "hashes": json.dumps(dict(answer.hashes), sort_keys=True),
            "notes": json.dumps(dict(answer.notes), sort_keys=True),
            "lacks": json.dumps(told),
            **{name: pack_features(answer.vectors[name]) for name in self.facts.vectors},
        }
