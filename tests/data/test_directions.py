"""Agreement against a plain reading of its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.stats import median_abs_deviation

from lorweb.data.directions import agreement, standing


def test_each_pair_is_compared_with_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8)).astype(np.float32)
    rows = [(f"p{i}", "one" if i < 4 else "two", v) for i, v in enumerate(vectors)]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = units[0] @ (m := units[1:4].mean(axis=0)) / np.linalg.norm(m)
    found = agreement(lambda: rows)
    assert found["p0"].direction == pytest.approx(expected, abs=1e-6)
    assert found["p4"].direction == pytest.approx(units[4] @ units[5], abs=1e-6)


def test_an_outlier_disagrees_and_no_change_says_nothing():
    same, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    rows = [("a", "t", same), ("b", "t", same * 3), ("c", "t", -same), ("d", "t", zero), ("e", "alone", same)]
    found = agreement(lambda: rows)
    assert found["c"].direction == pytest.approx(-1.0)
    assert found["d"].direction == 0.0
    assert found["e"].direction == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_edit_is_the_margin_over_the_best_other_task(seed):
    rng = np.random.default_rng(seed)
    tasks = ["one"] * 4 + ["two"] * 3 + ["three"]
    rows = [(f"p{i}", task, rng.normal(size=5).astype(np.float32)) for i, task in enumerate(tasks)]
    found = agreement(lambda: rows)
    for name, task, vector in rows:
        means = {}
        for other in set(tasks):
            own = [v / np.linalg.norm(v) for n, t, v in rows if t == other and n != name]
            means[other] = np.mean(own, axis=0) if own else None
        cos = {t: 1 - cosine(vector.astype(float), m) for t, m in means.items() if m is not None}
        expected = cos.get(task, 1.0) - max(value for t, value in cos.items() if t != task)
        assert found[name].edit == pytest.approx(expected, abs=1e-6)


def test_another_tasks_edit_is_told_and_one_task_alone_has_no_rival():
    up, right = np.array([0, 1, 0], np.float32), np.array([1, 0, 0], np.float32)
    rows = [(f"u{i}", "up", up) for i in range(5)] + [(f"r{i}", "right", right) for i in range(5)]
    rows[2] = ("wrong", "up", right)
    found = agreement(lambda: rows)
    assert found["wrong"].edit == pytest.approx(-1.0) and found["r0"].edit == pytest.approx(1 - 0.2425, abs=1e-3)
    alone = agreement(lambda: rows[5:])
    assert all(own.edit == pytest.approx(2.0) for own in alone.values())


def test_the_length_of_a_change_is_measured_against_its_task():
    rows = [(f"p{i}", "t", np.full(4, length, np.float32)) for i, length in enumerate([1, 2, 2, 3, 10])]
    rows += [("still", "u", np.zeros(4, np.float32)), ("still2", "u", np.zeros(4, np.float32))]
    found = agreement(lambda: rows)
    assert [found[f"p{i}"].magnitude for i in range(5)] == pytest.approx([0.5, 1, 1, 1.5, 5])
    assert found["still"].magnitude == 0.0


@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=30))
def test_standing_is_the_robust_z_of_scipy(values):
    names = [f"p{i}" for i in range(len(values))]
    found = standing(dict(zip(names, values, strict=True)), dict.fromkeys(names, "t"))
    spread = median_abs_deviation(values, scale="normal")
    if spread > 1e-3:
        expected = (np.array(values) - np.median(values)) / spread
        np.testing.assert_allclose([found[name] for name in names], expected, rtol=1e-3, atol=1e-4)


def test_standing_is_finite_where_a_task_has_one_value_and_silent_where_it_has_few_pairs():
    names = [f"p{i}" for i in range(10)]
    one = dict.fromkeys(names, 0.5) | {"p9": 0.9}
    found = standing(one, dict.fromkeys(names, "t"))
    assert found["p0"] == 0.0 and found["p9"] == pytest.approx(0.4 / 0.0005)
    few = {f"q{i}": float(i) for i in range(7)}
    assert set(standing(few, dict.fromkeys(few, "u")).values()) == {0.0}
