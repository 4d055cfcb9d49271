"""What sentences claim of differences: no more than interval and p value allow, and what speaks against it too."""

from typing import Any

import pytest

from lorweb.evaluation.glossary import described
from lorweb.evaluation.verdicts import comparisons, sense, told, verdicts

HEADLINE = "mse_to_truth"
COPY, GAP = "lorweb minus copy", "exemplar gap of lorweb (shuffled minus true)"
OURS = {"seen": {"lorweb": {HEADLINE: {"mean": 0.1, "low": 0.05, "high": 0.2, "n": 4, "tasks": 4}}}}


def difference(mean: float, low: float, high: float, p_value: float = 0.01) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "n": 8, "tasks": 8, "p_value": p_value}


def sentence(name: str, found: dict, **others: dict) -> str:
    """What is said of a difference on trained tasks, by the headline and by other metrics."""
    by_metric = {metric: {name: {"seen": other}} for metric, other in others.items()}
    ((cell, sentences),) = verdicts(OURS, {name: {"seen": found}}, described(HEADLINE), by_metric)
    assert cell == "seen" and len(sentences) == 2 and sentences[0] == "mse_to_truth 0.1000 (0.0500 to 0.2000)"
    return sentences[1]


@pytest.mark.parametrize(
    ("name", "found", "said"),
    [
        (COPY, (-0.02, -0.03, -0.01), "better"),
        (COPY, (0.02, 0.01, 0.03), "worse"),
        (COPY, (0.02, -0.01, 0.03), "not told from zero"),
        (COPY, (-0.02, -0.03, -0.01, 0.05), "not told from zero"),  # the interval alone is not enough
        (COPY, (0.02, -0.01, 0.03, 0.04), "not told from zero"),  # nor is p
        (COPY, (0.02, 0.02, 0.02, 1.0), "not told from zero"),  # one task
        (GAP, (0.02, 0.01, 0.03), "the exemplar is followed"),
        (GAP, (-0.02, -0.03, -0.01), "the exemplar misleads"),
        (GAP, (-0.02, -0.03, -0.01, 0.2), "not told from zero"),
    ],
)
def test_sentences_claim_what_interval_and_p_value_allow_together(name, found, said):
    assert sentence(name, difference(*found)).endswith(f"{found[1]:+.4f} to {found[2]:+.4f}), {said}")


def test_a_metric_that_says_otherwise_is_named():
    worse = difference(0.199, 0.1, 0.3)
    text = sentence(
        COPY, difference(-0.02, -0.03, -0.01), perceptual_to_truth=worse, ssim_to_truth=difference(-1, -2, -1)
    )
    assert text.endswith(", better; but worse by perceptual_to_truth (+0.1990), ssim_to_truth (-1.0000)")
    unsure = sentence(COPY, difference(-0.02, -0.03, 0.01), perceptual_to_truth=worse)
    assert unsure.endswith("not told from zero; but worse by perceptual_to_truth (+0.1990)")
    gap = sentence(GAP, difference(0.02, 0.01, 0.03), ssim_to_truth=difference(0.1, 0.05, 0.2))
    assert gap.endswith("the exemplar is followed; but the exemplar misleads by ssim_to_truth (+0.1000)")


def test_a_metric_that_agrees_is_unsure_or_has_no_direction_is_not():
    better = difference(-0.02, -0.03, -0.01)
    others = {
        "psnr_to_truth": difference(1, 0.5, 2),
        "ssim_to_truth": difference(-0.1, -0.2, 0.1),
        "color_to_truth": difference(0.1, 0.05, 0.2, 0.06),
        "perceptual_to_source": difference(0.1, 0.05, 0.2),
        "nobody_knows": difference(0.1, 0.05, 0.2),
    }
    assert sentence(COPY, better, **others).endswith(", better")
    assert sense(COPY, others["psnr_to_truth"], described("psnr_to_truth")) == "better"
    assert sense(COPY, others["perceptual_to_source"], described("perceptual_to_source")) is None
    assert told(others["nobody_knows"]) and not told(others["color_to_truth"])


def test_every_p_value_is_counted():
    one = {COPY: {"seen": difference(0, 0, 0), "unseen": difference(0, 0, 0)}}
    assert comparisons(one, {"ssim_to_truth": one, "x": {GAP: {"seen": difference(0, 0, 0)}}}) == 5
