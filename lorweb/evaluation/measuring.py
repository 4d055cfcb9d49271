"""The second row function of the evaluate stage: measure the answers of all models to one analogy.

Images are compared at quadrant size, which is all that a model ever sees and draws.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lorweb.data.shards import RowReader
from lorweb.evaluation.entries import PACKAGED
from lorweb.evaluation.workers import ANSWER, Sources, decode_quadrant
from lorweb.records import PAIR, dump_scores

MEASURE_VERSION: Final = "2"  # goes up when the same images would get other numbers

SCORED: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # analogy
        pa.field("scores", pa.string(), nullable=False),  # JSON {"<model>/<metric>": number}, see `group_draws`
    ]
)


@dataclass(frozen=True)
class Backbones:
    """Names as in the parameters (lorweb.evaluation.entries), and where they run."""

    perceptual: str = PACKAGED
    direction: str = PACKAGED
    device: str = "cpu"


class MeasureAnswers:
    """Items {id: analogy, images: hashes, at: {exemplar, query, answers: {draw: place}}} -> SCORED rows."""

    def __init__(self, sources: Sources, answers: Path, backbones: Backbones) -> None:
        from lorweb.data.scores import SafetyNet
        from lorweb.evaluation.backbones import load_backbones

        self.net = SafetyNet()
        self.backbones = load_backbones(backbones.perceptual, backbones.direction, backbones.device)
        self.size = sources.size()
        self.pairs = RowReader(sources.pairs, PAIR, ["id", "before", "after"])
        self.answers = RowReader(answers, ANSWER, ["id", "image"])

    def __call__(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._measure(item) for item in items]

    def _measure(self, item: dict[str, Any]) -> dict[str, Any]:
        from lorweb.evaluation import metrics

        at = item["at"]
        exemplar, query = (self.pairs(at[name]) for name in ("exemplar", "query"))
        images = [decode_quadrant(pair[side], self.size) for pair in (exemplar, query) for side in ("before", "after")]
        answers = {
            draw: decode_quadrant(self.answers(place)["image"], self.size) for draw, place in at["answers"].items()
        }
        measured = metrics.measure_answers(self.net, metrics.Question(*images), answers, self.backbones)
        flat = {f"{draw}/{name}": value for draw, values in measured.items() for name, value in values.items()}
        return {"id": item["id"], "scores": dump_scores(flat)}


def draw_name(model: str, number: int) -> str:
    """What the answer from noise `number` is called among those to one analogy: by the model's name, for the first."""
    return f"{model}@{number}" if number else model
