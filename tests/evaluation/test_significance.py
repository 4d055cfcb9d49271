"""What the intervals and p values promise, by simulation and against scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from lorweb.evaluation.aggregate import Comparison, Row, interval, paired
from lorweb.evaluation.significance import LEVELS, sign_flip_p, wilson

DRAWS = {  # how means of tasks are spread: (draw n of them, their true mean)
    "normal": (lambda g, n: g.normal(0.0, 1.0, n), 0.0),
    "skewed": (lambda g, n: g.gamma(2.0, 1.0, n), 2.0),
    "very skewed": (lambda g, n: g.lognormal(0.0, 0.7, n), float(np.exp(0.245))),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "n", "least"),
    [
        ("normal", 5, 0.91),
        *[("normal", n, 0.93) for n in (10, 20, 40)],
        ("skewed", 5, 0.88),
        *[("skewed", n, 0.91) for n in (10, 20, 40)],
        ("very skewed", 5, 0.85),
        *[("very skewed", n, 0.90) for n in (10, 20, 40)],
    ],
)
def test_a_95_percent_interval_covers_the_truth(kind, n, least):
    """Of 1500 simulated sets. Normal means: nearly so; few and skewed ones: less. The guide gives the numbers."""
    draw, truth = DRAWS[kind]
    generator = np.random.default_rng(n)
    hits = 0
    for _ in range(1500):
        low, high = interval(draw(generator, n), 1000, generator)
        hits += low <= truth <= high
    assert least <= hits / 1500 <= 0.975


@pytest.mark.parametrize("n", [6, 12, 30])
def test_without_a_difference_five_in_a_hundred_are_called_significant(n):
    """Skewed differences with a mean of 0 that is symmetric: what two equal models give."""
    generator = np.random.default_rng(n)
    found = [sign_flip_p(generator.gamma(2, size=n) - generator.gamma(2, size=n), 300, generator) for _ in range(600)]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.08


def test_all_signs_are_tried_where_they_are_few():
    """By hand: of the 2^5 means, how many are as far from 0."""
    d = np.array([0.3, -0.1, 0.5, 0.2, 0.7])
    means = np.array([np.mean(d * signs) for signs in itertools.product((1, -1), repeat=5)])
    expected = np.mean(np.abs(means) >= abs(d.mean()) - 1e-12)
    generator = np.random.default_rng(0)
    assert sign_flip_p(d, 32, generator) == pytest.approx(expected)
    assert sign_flip_p(np.full(5, 0.1), 32, generator) == 2 / 32  # the least that five tasks can say


def test_many_units_agree_with_a_t_test_and_one_says_nothing():
    generator = np.random.default_rng(0)
    d = generator.normal(0.15, 1.0, 100)
    assert sign_flip_p(d, 20_000, generator) == pytest.approx(ttest_1samp(d, 0).pvalue, abs=0.02)
    assert sign_flip_p(np.array([3.0]), 100, generator) == sign_flip_p(np.zeros(9), 100, generator) == 1.0
    assert sign_flip_p(generator.normal(5, 1, 40), 999, generator) == pytest.approx(2 / 1000)
    with pytest.raises(ValueError, match="no differences to test"):
        sign_flip_p(np.array([]), 10, generator)


def test_paired_tells_a_real_difference_from_none():
    def row(task, model, value):
        return Row(f"t{task}", "seen", model, {"mse_to_truth": value})

    generator = np.random.default_rng(1)
    rows = []
    for task in range(20):
        hard = generator.uniform(0, 5)
        rows += [row(task, "good", hard), row(task, "bad", hard + 0.1 + generator.normal(0, 0.02))]
        rows += [row(task, "alike", hard + generator.normal(0, 0.02))]
    p = {
        other: paired(rows, Comparison("good", other, "mse_to_truth", "seen"), 500, 0)["p_value"]
        for other in ("bad", "alike", "good")
    }
    assert p["bad"] < 0.01 and p["alike"] > 0.05 and p["good"] == 1.0
    again = paired(rows[::-1], Comparison("good", "bad", "mse_to_truth", "seen"), 500, 0)
    assert again["p_value"] == p["bad"], "the order of rows plays no part"


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_scipy(counted):
    wins, trials = counted
    for confidence in LEVELS.values():
        expected = binomtest(wins, trials).proportion_ci(confidence, method="wilson")
        assert wilson(wins, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_takes_halves_and_refuses_what_is_no_proportion():
    low, high = wilson(5.5, 10, 0.95)
    assert wilson(5, 10, 0.95)[0] < low < 0.55 < high < wilson(6, 10, 0.95)[1]
    for wins, trials in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="are no proportion"):
            wilson(wins, trials, 0.95)
