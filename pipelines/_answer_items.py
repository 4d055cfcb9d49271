"""The rows of the evaluate stage as items for the engine: what is drawn, what is measured."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lorweb.evaluation.models import MODELS, Reference, exemplar_for, weights_of
from lorweb.evaluation.workers import answer_id, noise_number
from pipelines._rows import Item
from pipelines._stage import seed_of

if TYPE_CHECKING:
    from pipelines._answers import Plan

Answers = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""{analogy: {draw: row of the index of data/evaluation}}"""


def draw_items(plan: "Plan") -> list[Item]:
    """One item per (model, analogy, noise), the noises of an analogy together, so that its mix is computed once.

    `weights` makes a retrained model other work and leaves the rest finished. References need one noise: none is used.
    """
    return [
        {
            "id": answer_id(name, analogy["id"], number),
            "analogy": analogy["id"],
            "model": name,
            "exemplar": exemplar_for(name, analogy, plan.analogies),
            "query": analogy["query"],
            "instruction": analogy["instruction"],
            "seed": seed_of("evaluate", plan.seed, analogy["id"], *([number] if number else [])),
            "weights": plan.weights.get(weights_of(name) or "", ""),
            "at": plan.pairs[analogy["query"]]["at"],
        }
        for name in plan.cfg.models
        for analogy in plan.analogies
        for number in range(1 if isinstance(MODELS[name], Reference) else plan.cfg.seeds)
    ]


def by_analogy(answers: Sequence[Mapping[str, Any]]) -> Answers:
    """Rows of an index of answers (columns id, analogy, model), the models' in the order of the index."""
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for answer in answers:
        found[answer["analogy"]][draw_name(answer["model"], noise_number(answer["id"]))] = answer
    return found


def measure_items(plan: "Plan", answers: Answers) -> list[Item]:
    """One item per answer, those to one analogy together: a further model or noise leaves what is measured as it is."""
    return [
        {
            **{name: row[name] for name in ("id", "analogy", "model")},
            "images": [*plan.images_of(analogy), row["image_sha256"]],
            "at": {**plan.places_of(analogy), "answer": row["at"]},
        }
        for analogy in plan.analogies
        for row in answers[analogy["id"]].values()
    ]


def draw_name(model: str, number: int) -> str:
    """What the answer from noise `number` is called among those to one analogy: by the model's name, for the first."""
    return f"{model}@{number}" if number else model
