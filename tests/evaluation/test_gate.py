"""The gate's rules one by one; `test_gate_planted.py` runs the shipped thresholds on measured images."""

import math

import pytest
from pydantic import ValidationError

from lorweb.evaluation.gate import Decision, Evidence, Further, decide
from lorweb.evaluation.gate_entries import Gate, Healthy

GATE = Gate(
    metric="mse_to_truth",
    cells=("seen", "unseen"),
    margin_at="mean",
    min_margin=0.01,
    min_exemplar_gap=0.02,
    min_gain_over_copy=0.03,
    max_task_regression=0.1,
    max_regressed_tasks=0.0,
    health=None,
)
GOOD = {"lorweb": 0.10, "lorweb_shuffled": 0.20, "base": 0.18, "copy": 0.20}


def evidence(change: dict[str, float] | None = None, tasks: dict[str, float] | None = None) -> Evidence:
    means = {**GOOD, **(change or {})}
    cell = {
        model: {"mse_to_truth": {"mean": value, "low": value, "high": value, "n": 9}} for model, value in means.items()
    }
    return Evidence(
        {"seen": cell, "unseen": cell},
        {task: {"mse_to_truth": value} for task, value in (tasks or {"sepia": 0.1}).items()},
    )


def refusals(decision: Decision) -> str:
    assert not decision.promoted and decision.reasons
    return " | ".join(decision.reasons)


def test_first_promotion_is_measured_against_the_base():
    decision = decide(evidence(), None, GATE)
    assert decision.promoted
    assert len(decision.reasons) == 6
    assert any("base model 0.1800" in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base": 0.105}, "needed: above 0, at least 0.0100"),
        ({"base": 0.10}, "not better"),
        ({"lorweb_shuffled": 0.115}, "exemplar gap +0.0150 falls short of the needed 0.0200"),
        ({"copy": 0.12}, "gain over copying b +0.0200 falls short of the needed 0.0300"),
        ({"lorweb": math.nan}, "no finite mse_to_truth was measured for candidate"),
    ],
)
def test_each_threshold_refuses_on_its_own_with_numbers(change, words):
    decision = decide(evidence(change), None, GATE)
    assert words in refusals(decision)
    assert len(decision.reasons) == 2, "one reason for each of the two cells, nothing else"


def test_a_margin_of_zero_still_asks_for_better():
    gate = GATE.model_copy(update={"min_margin": 0.0})
    assert "not better" in refusals(decide(evidence(), evidence(), gate))
    assert decide(evidence({"lorweb": 0.0999}), evidence(), gate).promoted


def test_thresholds_of_zero_still_refuse_a_model_that_ignores_the_exemplar():
    gate = GATE.model_copy(update={"min_exemplar_gap": 0.0, "min_gain_over_copy": 0.0})
    assert "exemplar gap +0.0000" in refusals(decide(evidence({"lorweb_shuffled": 0.10}), None, gate))


def test_the_champion_is_compared_by_its_own_lorweb_numbers():
    worse_champion = evidence({"lorweb": 0.12, "base": 0.01})
    assert decide(evidence(), worse_champion, GATE).promoted
    assert "champion 0.1050" in refusals(decide(evidence(), evidence({"lorweb": 0.105}), GATE))


def test_one_task_may_not_get_much_worse():
    champion = evidence({"lorweb": 0.15}, {"sepia": 0.1, "flip": 0.1, "gone": 0.0})
    text = refusals(decide(evidence(tasks={"sepia": 0.05, "flip": 0.25}), champion, GATE))
    assert "worst of 2 tasks against the champion is flip: mse_to_truth +0.1500, above the allowed +0.1000" in text


def test_no_common_task_refuses():
    champion = evidence({"lorweb": 0.15}, {"other": 0.1})
    assert "no task has mse_to_truth from both" in refusals(decide(evidence(), champion, GATE))


def test_a_cell_or_model_that_was_not_measured_refuses():
    gate = GATE.model_copy(update={"cells": ("seen", "unseen_edit")})
    assert "unseen_edit: no finite mse_to_truth was measured for candidate, base model" in refusals(
        decide(evidence(), None, gate)
    )


def test_a_share_of_the_tasks_may_get_worse_if_the_gate_says_so():
    champion = evidence({"lorweb": 0.15}, {"sepia": 0.1, "flip": 0.1, "grey": 0.1})
    found = evidence(tasks={"sepia": 0.05, "flip": 0.25, "grey": 0.1})
    text = refusals(decide(found, champion, GATE))
    assert "1 of 3 tasks (33.3%) are above it, allowed are 0.0%" in text
    assert decide(found, champion, GATE.model_copy(update={"max_regressed_tasks": 0.34})).promoted
    assert not decide(found, champion, GATE.model_copy(update={"max_regressed_tasks": 0.33})).promoted


def intervals(low: float, **lows: float) -> dict:
    names = ("base", "lorweb_shuffled", "copy", "champion")
    cell = {name: {"mean": 0.5, "low": lows.get(name, low), "high": 0.9, "n": 40} for name in names}
    return {"seen": cell, "unseen": cell}


def test_the_low_end_of_the_interval_must_reach_the_threshold_too():
    gate = GATE.model_copy(update={"margin_at": "low"})
    good = decide(evidence(), None, gate, Further(intervals(0.04)))
    assert good.promoted and len(good.checks) == 12 and len(good.reasons) == 12
    for name, needed, what in (
        ("base", 0.01, "margin"),
        ("lorweb_shuffled", 0.02, "exemplar gap"),
        ("copy", 0.03, "gain"),
    ):
        decision = decide(evidence(), None, gate, Further(intervals(0.04, **{name: needed - 0.001})))
        text = refusals(decision)
        assert len(decision.reasons) == 2 and f"95 % interval of the {what}" in text
        assert f"its low end falls short of the needed {needed:.4f}" in text
    champion = evidence({"lorweb": 0.15})
    assert decide(evidence(), champion, gate, Further(intervals(0.04, base=-1.0))).promoted
    assert "interval of the margin is -0.0100 to +0.9000 over 40 analogies" in refusals(
        decide(evidence(), champion, gate, Further(intervals(0.04, champion=-0.01)))
    )


@pytest.mark.parametrize(("counts", "told"), [({"n": 1, "tasks": 1}, False), ({"n": 2, "tasks": 1}, True)])
def test_one_analogy_is_never_certain(counts, told):
    gate = GATE.model_copy(update={"margin_at": "low"})
    cell = {name: {"mean": 0.5, "low": 0.5, "high": 0.5, **counts} for name in ("base", "lorweb_shuffled", "copy")}
    decision = decide(evidence(), None, gate, Further({"seen": cell, "unseen": cell}))
    assert decision.promoted == told
    if not told:
        assert "seen: the margin was measured on one analogy, which has no interval" in refusals(decision)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("ssim_to_truth", "of 'ssim_to_truth' higher is better, .* did you mean 'mse_to_truth'"),
        ("psnr_to_truth", "of 'psnr_to_truth' higher is better"),
        ("feature_direction", "of 'feature_direction' higher is better"),
        ("judge_accuracy", "of 'judge_accuracy' higher is better"),
        ("lpips_to_source", "of 'lpips_to_source' neither direction is better, .* did you mean 'lpips_to_truth'"),
        ("mse_to_thruth", "unknown metric 'mse_to_thruth'; did you mean 'mse_to_truth'"),
    ],
)
def test_a_metric_that_would_promote_the_worse_model_is_refused(metric, words):
    with pytest.raises(ValidationError, match=words):
        Gate.model_validate({**GATE.model_dump(), "metric": metric})
    for name in ("mse_to_truth", "perceptual_to_truth", "color_histogram_to_truth", "lpips_to_truth"):
        assert Gate.model_validate({**GATE.model_dump(), "metric": name}).metric == name


def test_an_interval_that_was_not_measured_refuses():
    gate = GATE.model_copy(update={"margin_at": "low"})
    text = refusals(decide(evidence(), None, gate))
    assert "no interval of the margin was measured, which margin_at: low asks for" in text
    assert decide(evidence(), None, GATE).promoted, "the mean asks for none"


HEALTHY = {"entropy": 0.5, "variation": 0.3, "update_variation": 0.2, "dead_atoms": 0.1}


def test_a_basis_that_is_not_healthy_is_refused():
    bounds = Healthy(min_entropy=0.4, min_variation=0.3, min_update_variation=0.1, max_dead_atoms=0.1)
    gate = GATE.model_copy(update={"health": bounds})
    assert decide(evidence(), None, gate, Further(health=HEALTHY)).promoted
    for name, value in (("entropy", 0.39), ("variation", 0.29), ("update_variation", 0.09), ("dead_atoms", 0.11)):
        decision = decide(evidence(), None, gate, Further(health=HEALTHY | {name: value}))
        assert len(decision.reasons) == 1 and f"health: {name} is {value}" in refusals(decision)
    unknown = decide(evidence(), None, gate, Further(no_health="its queries are internal"))
    assert "the health of the basis is not known, which gate.health asks for: its queries are internal" in refusals(
        unknown
    )


def test_every_check_is_listed_with_its_numbers():
    listed = decide(evidence({"copy": 0.12}), None, GATE).listed()
    assert [check["name"] for check in listed if check["cell"] == "seen"] == [
        "margin",
        "exemplar gap",
        "gain over copying b",
    ]
    assert [check["passed"] for check in listed] == [True, True, False] * 2
    assert listed[2]["value"] == pytest.approx(0.02) and listed[2]["needed"] == 0.03
