"""The shipped thresholds on real measurements: planted models that cheat are refused, a perfect one passes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lorweb.config import load_params
from lorweb.data.scores import SafetyNet
from lorweb.evaluation.gate import Decision, decide
from lorweb.evaluation.metrics import Question, measure_answers
from lorweb.evaluation.results import Measured, evidence, per_task, rows_of, summarise

pytestmark = pytest.mark.slow  # answers are measured first, for seconds

Edit = Callable[[Image.Image], Image.Image]
EDITS: dict[str, Edit] = {
    "negative": ImageOps.invert,
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "warm": lambda image: Image.blend(image, Image.new("RGB", image.size, (255, 140, 0)), 0.5),
    "upside_down": ImageOps.flip,
}
HELD_OUT = {"warm", "upside_down"}
SIDE = 64  # px


def photos() -> list[Image.Image]:
    from skimage import data

    crops = [data.astronaut()[0:256, 100:356], data.coffee()[50:350, 100:400]]
    return [Image.fromarray(np.ascontiguousarray(crop)).resize((SIDE, SIDE)) for crop in crops]


def other(edit: str) -> str:
    names = list(EDITS)
    return names[(names.index(edit) + 1) % len(names)]


@dataclass(frozen=True)
class Answered:
    """One analogy and the scores of every image that some planted model answers with."""

    edit: str
    index: int
    scores: dict[str, dict[str, float]]  # by edit name (that edit of b), and "copy", "base", "noise"


@pytest.fixture(scope="module")
def answered() -> list[Answered]:
    """Measured once for all models: the network is the slow part."""
    net, images = SafetyNet(), photos()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    found = []
    for edit, apply in EDITS.items():
        for index, b in enumerate(images):
            a = images[(index + 1) % len(images)]
            answers = {name: change(b) for name, change in EDITS.items()}
            answers |= {"copy": b, "base": ImageOps.posterize(b, 3), "noise": noise}
            found.append(Answered(edit, index, measure_answers(net, Question(a, apply(a), b, apply(b)), answers)))
    return found


def judged(answered: list[Answered], model: Callable[[str, str], str]) -> Decision:
    """`model(edit of the exemplar shown, true edit)` names its answer; judged with the thresholds of params.yaml."""
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    measured = []
    for row in answered:
        scores = {
            "lorweb": row.scores[model(row.edit, row.edit)],
            "lorweb_shuffled": row.scores[model(other(row.edit), row.edit)],
            "base": row.scores["base"],
            "copy": row.scores["copy"],
        }
        holdout = "edit" if row.edit in HELD_OUT else "none"
        measured.append(Measured(f"{row.edit}{row.index}", row.edit, "colour", holdout, False, "photo", scores))
    metrics = summarise(rows_of(measured), 200, 0)
    assert {"seen", "unseen", "unseen_edit", "seen_photo", "unseen_photo"} == set(metrics)
    return decide(evidence(metrics, per_task(measured)), None, params.promote.gate)


def test_a_perfect_model_is_promoted(answered):
    decision = judged(answered, lambda shown, true: shown)
    assert decision.promoted, decision.reasons


def test_a_model_that_knows_the_edit_but_ignores_the_exemplar_is_refused(answered):
    decision = judged(answered, lambda shown, true: true)
    assert not decision.promoted
    assert len(decision.reasons) == 2 and all("exemplar gap +0.0000" in reason for reason in decision.reasons)


def test_a_model_that_copies_b_is_refused(answered):
    decision = judged(answered, lambda shown, true: "copy")
    assert not decision.promoted
    assert any("gain over copying b +0.0000" in reason for reason in decision.reasons)


def test_a_model_that_answers_noise_is_refused(answered):
    assert not judged(answered, lambda shown, true: "noise").promoted
