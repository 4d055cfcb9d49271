"""The first row function of the evaluate stage: draw b' of (analogy, model, noise).

A plain callable over JSON items; a runner decides where it runs. Images are compared at quadrant size, which is all
that a model ever sees and draws.
"""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from PIL import Image

from lorweb.data.shards import RowReader, read_index
from lorweb.evaluation.models import MODELS, OFFICIAL, Reference
from lorweb.evaluation.painter import Painter, Question, Settings
from lorweb.evaluation.pictures import png_bytes
from lorweb.kontext.grid import Size, fit_image
from lorweb.records import PAIR

DRAW_VERSION: Final = "1"  # goes up when the same weights and settings would give other images

ANSWER: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # see `answer_id`; rows of one model lie together
        pa.field("analogy", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),  # of the noise: equal numbers, equal noise for all models
        pa.field("image", pa.large_binary(), nullable=False),  # PNG of b', quadrant size
        pa.field("mix", pa.large_binary()),  # safetensors of `mix` [layers, N]; null for models without a basis
    ]
)


@dataclass(frozen=True)
class Sources:
    """Where a worker reads from: below the project's root, which its working directory stands for."""

    encoded: Path
    pairs: Path
    weights: Mapping[str, Path | str]  # of OFFICIAL what the parameters say, which may be a URI
    quadrant: int  # px

    def reads(self, *weights: str) -> tuple[str, ...]:
        """Folders of the project that a worker opens which draws with these weights."""
        own = (str(self.weights[name]) for name in weights if name != OFFICIAL)
        return (str(self.encoded), str(self.pairs), *own)

    def size(self) -> Size:
        """One quadrant."""
        return Size(self.quadrant, self.quadrant)


class DrawAnswers:
    """Items {id, analogy, model, exemplar, query, instruction, seed, weights, at: place of query} -> ANSWER rows."""

    def __init__(self, sources: Sources, settings: Settings) -> None:
        from lorweb.training.dataset import Encoded

        self.sources = sources
        self.painter = Painter(Encoded.load(sources.encoded), sources.weights, settings)
        self.pairs = RowReader(sources.pairs, PAIR, ["id", "before", "after"])

    def __call__(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        by_model: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for item in items:
            by_model[item["model"]].append(item)
        rows = {row["id"]: row for model, found in by_model.items() for row in self._draw(model, found)}
        return [rows[item["id"]] for item in items]

    def _draw(self, model: str, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        row = MODELS[model]
        if isinstance(row, Reference) and not row.through_codec:
            stored = [decode_quadrant(self.pairs(item["at"])[row.side], self.sources.size()) for item in items]
            return [_answer(item, image, None) for item, image in zip(items, stored, strict=True)]
        questions = [Question(i["exemplar"], i["query"], i["instruction"], i["seed"]) for i in items]
        # one at a time: in a batch, rounding depends on who else is in it, and a resumed run batches differently
        if isinstance(row, Reference):
            answers = [self.painter.through_codec(row.side, [q])[0] for q in questions]
        else:
            answers = [self.painter(model, [q])[0] for q in questions]
        return [
            _answer(item, found.image, _mix_bytes(found.mix_LN)) for item, found in zip(items, answers, strict=True)
        ]


def decode_quadrant(png: bytes, size: Size) -> Image.Image:
    """Stored PNG -> RGB image of one quadrant, fitted as the encode stage fits it."""
    return fit_image(Image.open(io.BytesIO(png)).convert("RGB"), size, "crop")[0]


def answer_id(model: str, analogy: str, number: int) -> str:
    """Name of an answer: `number` counts the noises of an analogy from 0, whose answer is called as if there were one.

    So a run that asks for more noises finds what an earlier one drew.
    """
    return f"{model}:{analogy}" + (f":{number}" if number else "")


def noise_number(answer: str) -> int:
    """The number in an answer's name."""
    return int(answer.split(":")[2]) if answer.count(":") == 2 else 0


def first_answers(folder: Path) -> list[dict[str, Any]]:
    """The index (analogy, model, at) of the answers from the first noise of each analogy."""
    return [row for row in read_index(folder, ANSWER, ["id", "analogy", "model"]) if noise_number(row["id"]) == 0]


def _mix_bytes(mix_LN: Any) -> bytes | None:
    if mix_LN is None:
        return None
    from safetensors.torch import save

    return bytes(save({"mix": mix_LN.half().contiguous()}))


def _answer(item: dict[str, Any], image: Image.Image, mix: bytes | None) -> dict[str, Any]:
    row = {name: item[name] for name in ("id", "analogy", "model", "seed")}
    return {**row, "image": png_bytes(image), "mix": mix}
