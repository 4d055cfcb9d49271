"""Means over tasks and their intervals: by hand, in any order, and by simulation of what 95 % means."""

import json
import math

import numpy as np
import pytest
from scipy.stats import sem
from scipy.stats import t as scipy_t

from lorweb.evaluation.aggregate import Comparison, Row, aggregate, expanded_tail, interval, paired, resampled


def row(task: str, model: str, value: float, cell: str = "seen") -> Row:
    return Row(task, cell, model, {"perceptual_to_truth": value})


@pytest.fixture
def rows() -> list[Row]:
    generator = np.random.default_rng(0)
    found = []
    for task in range(12):
        difficulty = generator.uniform(0, 5)
        for _ in range(3):
            base = difficulty + generator.normal(0, 0.01)
            found += [row(f"t{task}", "lorweb", base - 0.1 + generator.normal(0, 0.01)), row(f"t{task}", "base", base)]
    return found


def test_mean_per_task_then_over_tasks():
    """Task x has three answers, task y one: 2 and 10 average to 6, not to the 4 of all answers together."""
    found = aggregate([row("x", "m", v) for v in (1.0, 2.0, 3.0)] + [row("y", "m", 10.0)], bootstrap=100, seed=0)
    summary = found["seen"]["m"]["perceptual_to_truth"]
    assert summary["mean"] == 6.0 and summary["n"] == 4 and summary["tasks"] == 2
    half = 12.7062 * math.sqrt(((2 - 6) ** 2 + (10 - 6) ** 2) / 1) / math.sqrt(2)  # Student's t with one degree
    assert summary["low"] == pytest.approx(6 - half, abs=1e-3) and summary["high"] == pytest.approx(6 + half, abs=1e-3)


def test_cells_and_models_are_kept_apart_and_json_can_hold_them(rows):
    found = aggregate([*rows, row("u", "lorweb", 0.5, "unseen")], bootstrap=50, seed=0)
    assert list(found) == ["seen", "unseen"] and list(found["seen"]) == ["base", "lorweb"]
    assert found["unseen"]["lorweb"]["perceptual_to_truth"] == {
        "mean": 0.5,
        "low": 0.5,
        "high": 0.5,
        "n": 1,
        "tasks": 1,
    }
    assert json.loads(json.dumps(found)) == found


def test_order_of_rows_changes_nothing_and_the_seed_does(rows):
    first = aggregate(rows, bootstrap=200, seed=0)
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    assert aggregate(shuffled, bootstrap=200, seed=0) == first
    assert aggregate(rows, bootstrap=200, seed=1) != first


def test_a_single_task_is_resampled_by_its_answers():
    summary = aggregate([row("x", "m", v) for v in (0.0, 1.0, 2.0, 3.0)], bootstrap=500, seed=0)["seen"]["m"]
    assert summary["perceptual_to_truth"]["low"] < 1.0 and summary["perceptual_to_truth"]["high"] > 2.0


@pytest.mark.slow
def test_the_interval_covers_the_truth_95_times_in_a_hundred():
    """8 to 40 tasks with normal or skewed means; plain percentiles would cover 87 to 93 %."""
    generator = np.random.default_rng(0)
    for n, draw, least in ((8, generator.normal, 0.925), (40, generator.normal, 0.925), (20, generator.gamma, 0.91)):
        truth, hits = (2.0 if draw == generator.gamma else 0.0), 0
        for _ in range(1000):
            values = draw(2.0, size=n) if draw == generator.gamma else draw(size=n)
            low, high = interval(values, 300, generator)
            hits += low <= truth <= high
        assert least < hits / 1000 < 0.975, (n, hits)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_tasks_are_covered_as_often_and_not_told_narrower(n):
    """Resampling would cover 50, 75 and 88 %."""
    generator = np.random.default_rng(0)
    hits = sum(
        low <= 0 <= high for low, high in (interval(generator.normal(size=n), 300, generator) for _ in range(2000))
    )
    assert 0.935 < hits / 2000 < 0.965
    values = generator.normal(size=n)
    assert interval(values, 300, generator) == pytest.approx(
        scipy_t.interval(0.95, n - 1, values.mean(), sem(values)), abs=1e-12
    )


def test_what_an_interval_rests_on():
    counted = {"tasks 3": (7, 3, 3), "one task": (7, 1, 7), "one answer": (1, 1, 1)}
    for n, tasks, units in counted.values():
        assert resampled({"n": n, "tasks": tasks}) == units
    assert interval(np.array([0.5]), 100, np.random.default_rng(0)) == (0.5, 0.5)


def test_from_five_tasks_on_the_ends_are_those_of_resampling():
    values = np.array([0.1, 0.4, 0.2, 0.9, 0.5])
    means = values[np.random.default_rng(3).integers(0, 5, size=(400, 5))].mean(axis=1)
    tail = expanded_tail(5)
    assert interval(values, 400, np.random.default_rng(3)) == tuple(np.quantile(means, [tail, 1 - tail]))


def test_paired_difference_is_far_narrower_than_the_two_intervals(rows):
    found = aggregate(rows, bootstrap=500, seed=0)["seen"]
    difference = paired(rows, Comparison("lorweb", "base", "perceptual_to_truth", "seen"), bootstrap=500, seed=0)
    means = [found[model]["perceptual_to_truth"] for model in ("lorweb", "base")]
    assert difference["mean"] == pytest.approx(means[0]["mean"] - means[1]["mean"])
    assert difference["low"] < -0.09 and difference["high"] < 0  # apart, though the two intervals overlap
    assert means[0]["high"] > means[1]["low"]
    assert difference["n"] == 36 and difference["tasks"] == 12


def test_a_model_against_itself_differs_by_exactly_zero(rows):
    found = paired(rows, Comparison("base", "base", "perceptual_to_truth", "seen"), bootstrap=100, seed=0)
    assert (found["mean"], found["low"], found["high"]) == (0.0, 0.0, 0.0)


def test_unequal_answers_are_refused(rows):
    compared = Comparison("lorweb", "base", "perceptual_to_truth", "seen")
    with pytest.raises(ValueError, match=r"cannot pair lorweb and base.*\['t0'\]"):
        paired(rows[1:], compared, bootstrap=10, seed=0)
    with pytest.raises(ValueError, match="they have 0 and 0 answers"):
        paired([], compared, bootstrap=10, seed=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="task 't1', is"):
        aggregate([row("t0", "m", 1.0), row("t1", "m", value)], bootstrap=10, seed=0)


def test_a_metric_that_only_some_answers_have_is_refused():
    rows = [row("t0", "m", 1.0), Row("t1", "seen", "m", {"ssim_to_truth": 1.0})]
    with pytest.raises(ValueError, match="differ in their metrics"):
        aggregate(rows, bootstrap=10, seed=0)
