"""Agreement against a plain reading of its definition."""

import numpy as np
import pytest

from lorweb.data.directions import agreement


def test_each_pair_is_compared_with_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8)).astype(np.float32)
    rows = [(f"p{i}", "one" if i < 4 else "two", v) for i, v in enumerate(vectors)]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = units[0] @ (m := units[1:4].mean(axis=0)) / np.linalg.norm(m)
    found = agreement(lambda: rows)
    assert found["p0"] == pytest.approx(expected, abs=1e-6)
    assert found["p4"] == pytest.approx(units[4] @ units[5], abs=1e-6)


def test_an_outlier_disagrees_and_no_change_says_nothing():
    same, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    rows = [("a", "t", same), ("b", "t", same * 3), ("c", "t", -same), ("d", "t", zero), ("e", "alone", same)]
    found = agreement(lambda: rows)
    assert found["c"] == pytest.approx(-1.0)
    assert found["d"] == 0.0
    assert found["e"] == 1.0
