"""The second row function of the evaluate stage: measure an answer against the truth.

Images are compared at quadrant size, which is all that a model ever sees and draws.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from lorweb.data.shards import RowReader
from lorweb.evaluation.entries import PACKAGED
from lorweb.evaluation.workers import ANSWER, Sources, decode_quadrant, noise_number
from lorweb.records import PAIR, dump_scores, load_scores

if TYPE_CHECKING:
    from lorweb.evaluation.metrics import MeasureAnswer

MEASURE_VERSION: Final = "2"  # goes up when the same images would get other numbers

SCORED: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the answer; rows of one model lie together
        pa.field("analogy", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("scores", pa.string(), nullable=False),  # JSON {metric: number}
    ]
)


@dataclass(frozen=True)
class Backbones:
    """Names as in the parameters (lorweb.evaluation.entries), and where they run."""

    perceptual: str = PACKAGED
    direction: str = PACKAGED
    device: str = "cpu"


class MeasureAnswers:
    """Items {id, analogy, model, images: hashes, at: places of {exemplar, query, answer}} -> SCORED rows.

    The networks look at a question once for the answers to it that follow one another.
    """

    def __init__(self, sources: Sources, answers: Path, backbones: Backbones) -> None:
        from lorweb.data.scores import SafetyNet
        from lorweb.evaluation.backbones import load_backbones

        self.net = SafetyNet()
        self.backbones = load_backbones(backbones.perceptual, backbones.direction, backbones.device)
        self.size = sources.size()
        self.pairs = RowReader(sources.pairs, PAIR, ["id", "before", "after"])
        self.answers = RowReader(answers, ANSWER, ["id", "image"])
        self.measure: MeasureAnswer | None = None
        self.question: list[str] = []  # hashes of the images that `measure` has looked at

    def __call__(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._measure(item) for item in items]

    def _measure(self, item: dict[str, Any]) -> dict[str, Any]:
        answer = decode_quadrant(self.answers(item["at"]["answer"])["image"], self.size)
        scores = self._measure_of(item)(answer, item["id"])
        return {**{name: item[name] for name in ("id", "analogy", "model")}, "scores": dump_scores(scores)}

    def _measure_of(self, item: dict[str, Any]) -> "MeasureAnswer":
        from lorweb.evaluation import metrics

        question = item["images"][:4]
        if self.measure is None or question != self.question:
            pairs = (self.pairs(item["at"][name]) for name in ("exemplar", "query"))
            images = [decode_quadrant(pair[side], self.size) for pair in pairs for side in ("before", "after")]
            self.measure = metrics.measure_of(self.net, metrics.Question(*images), self.backbones)
            self.question = question
        return self.measure


def answer_scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """SCORED rows -> {analogy: {model: metrics of its answer from each noise, in order}}."""
    found: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: (row["model"], row["analogy"], noise_number(row["id"]))):
        found[row["analogy"]][row["model"]].append(load_scores(row["scores"]))
    return found
