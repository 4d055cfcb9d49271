"""What the model card is written from, and its front matter in the form that hubs read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lorweb.evaluation.base_licence import licence_of_base
from lorweb.evaluation.gate import MODEL as OURS
from lorweb.evaluation.glossary import metrics_in
from lorweb.evaluation.local_names import base_name
from lorweb.evaluation.report import ReportData
from lorweb.evaluation.verdicts import SUMMED_UP
from lorweb.kontext.metadata import ModelMetadata

DIGITS: Final = 6  # of numbers in the front matter


@dataclass(frozen=True)
class TrainingPair:
    """One pair that training drew from, as the card counts it."""

    task: str
    edit_type: str
    category: str
    licence: str
    editor: str


@dataclass(frozen=True)
class CardData:
    """What the card is written from, besides the page's own numbers."""

    metadata: ModelMetadata
    basis: Mapping[str, Any]  # its configuration
    pairs: Sequence[TrainingPair]
    set_sha256: str
    weights_sha256: str


def front_matter(card: CardData, data: ReportData) -> str:
    """YAML without its fences, in the form of huggingface_hub.ModelCardData."""
    from huggingface_hub import EvalResult, ModelCardData

    base = licence_of_base(card.metadata.base)
    known = metrics_in(data.metrics)
    results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type="visual-analogies",
            dataset_name="held-out visual analogies",
            dataset_config=cell,
            dataset_split="test",
            dataset_revision=card.set_sha256,
            metric_type=metric.name,
            metric_value=float(f"{data.metrics[cell][OURS][metric.name]['mean']:.{DIGITS}g}"),
        )
        for cell in SUMMED_UP
        for metric in known
        if metric.name in data.metrics.get(cell, {}).get(OURS, {})
    ]
    found = ModelCardData(
        base_model=base_name(card.metadata.base),
        eval_results=results or None,
        library_name="lorweb",
        license=base.licence,
        license_name=base.name,
        license_link=base.link,
        metrics=[metric.name for metric in known],
        model_name="lorweb",
        pipeline_tag="image-to-image",
        tags=["visual-analogies", "image-editing", "lora"],
        base_model_relation="adapter",
    )
    return str(found.to_yaml()).strip()
