"""reports/model_card.md: what the card says of the training data and of the weights is read here."""

from pathlib import Path
from typing import TYPE_CHECKING

from lorweb.basis.files import read_metadata as read_file_metadata
from lorweb.basis.header import read_header
from lorweb.data.shards import read_index, read_table
from lorweb.evaluation.model_card import render_card
from lorweb.evaluation.model_card_facts import CardData, TrainingPair
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.report import ReportData
from lorweb.kontext.metadata import BASIS_FILE, read_metadata
from lorweb.records import DERIVED, PAIR, TRAIN_PAIR
from pipelines._stage import write_text

if TYPE_CHECKING:
    from pipelines._answers import Plan

SHOWN = ("task", "edit_type", "category", "licence", "editor")
NOT_EVALUATED = "# No model card\n\nThe candidate was not evaluated: `lorweb` is not among `evaluate.models`.\n"


def write_card(path: Path, plan: "Plan", data: ReportData) -> None:
    """The card of the candidate; where it was not evaluated, a page that says so.

    Raises:
        FileNotFoundError, ValueError: the candidate's files or the analogies are missing or damaged.
    """
    if CANDIDATE not in plan.weights:
        write_text(path, NOT_EVALUATED)
        return
    folder = Path(plan.sources.weights[CANDIDATE])
    basis = folder / BASIS_FILE
    header = read_header(basis, read_file_metadata(basis))
    card = CardData(
        read_metadata(folder),
        header.config.model_dump(mode="json"),
        training_pairs(plan),
        plan.set_sha256,
        plan.weights[CANDIDATE],
    )
    write_text(path, render_card(card, data))


def training_pairs(plan: "Plan") -> list[TrainingPair]:
    """The pairs that training drew from, each once; of a derived pair those that its two images come from."""
    from pipelines._answers import ANALOGIES

    drawn = {row["pair"] for row in read_table(ANALOGIES / "train", TRAIN_PAIR, ["pair"]).to_pylist()}
    if (ANALOGIES / "derived").is_dir():
        for row in read_table(ANALOGIES / "derived", DERIVED, ["pair", "before_pair", "after_pair"]).to_pylist():
            if row["pair"] in drawn:
                drawn |= {row["before_pair"], row["after_pair"]}
    found = read_index(plan.sources.pairs, PAIR, ["id", *SHOWN])
    return [TrainingPair(*(str(row[name]) for name in SHOWN)) for row in found if row["id"] in drawn]
