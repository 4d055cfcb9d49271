"""Own subject: against a plain reading of the definition, on made features and on real edits of real images."""

import tracemalloc

import numpy as np
import pytest

from lorweb.data import subjects
from lorweb.data.projection import Projection
from lorweb.data.subjects import WEIGHTS, Place, own_subject


def made(seed, count, strength=3.0, noise=0.3):
    """Subjects with an edit that moves all of them alike, far more than they differ."""
    rng = np.random.default_rng(seed)
    subject = rng.normal(size=(count, 32))
    after = subject + strength * rng.normal(size=32) + noise * rng.normal(size=(count, 32))
    names = [f"p{i:02d}" for i in range(count)]
    return names, subject.astype(np.float32), after.astype(np.float32)


def rows_of(names, before, after):
    return [(name, b, a) for name, b, a in zip(names, before, after, strict=True)]


def test_margins_are_those_of_the_definition():
    names, before, after = made(0, 9)
    shown = ["x", "x", "y", "z", "u", "v", "w", "q", "r"]
    places = {name: Place("t", subject) for name, subject in zip(names, shown, strict=True)}
    found = own_subject({"layout": lambda: rows_of(names, before, after)}, places, names)
    b, a = before - before.mean(0), after - after.mean(0)
    cos = lambda x, y: float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))  # noqa: E731
    for i in range(9):
        others = [j for j in range(9) if shown[j] != shown[i]]
        expected = min(
            cos(a[i], b[i]) - max(cos(a[i], b[j]) for j in others),
            cos(a[i], b[i]) - max(cos(a[j], b[i]) for j in others),
        )
        assert found[names[i]] == pytest.approx(expected, abs=1e-5)


def test_an_exchanged_after_image_is_told_from_a_strong_edit():
    names, before, after = made(1, 20)
    after[[3, 7]] = after[[7, 3]]
    places = {name: Place("t", name) for name in names}
    found = own_subject({"layout": lambda: rows_of(names, before, after)}, places, names)
    assert {name for name, margin in found.items() if margin < 0} == {"p03", "p07"}


def test_pairs_are_compared_with_all_of_their_task_in_blocks(monkeypatch):
    names, before, after = made(6, 23)
    places = {name: Place("t", f"s{number // 2}") for number, name in enumerate(names)}
    kinds = {kind: lambda: rows_of(names, before, after) for kind in WEIGHTS}
    whole = own_subject(kinds, places, names[3:])
    for block in (1, 5, 22):
        monkeypatch.setattr(subjects, "BLOCK", block)
        assert own_subject(kinds, places, names[3:]) == pytest.approx(whole, abs=1e-12)


@pytest.mark.slow
def test_a_large_task_takes_no_square_of_memory():
    count = 6000
    names, before, after = made(7, count)
    places = {name: Place("t", name) for name in names}
    tracemalloc.start()
    try:
        own_subject({"layout": lambda: rows_of(names, before, after)}, places, names)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < peak < count * count * 8


@pytest.mark.parametrize("held", [1, 30, 10_000])
def test_tasks_are_apart_and_passes_change_nothing(held):
    groups = [made(seed, 12) for seed in range(3)]
    rows, places = [], {}
    for task, (names, before, after) in enumerate(groups):
        rows += rows_of([f"{task}{name}" for name in names], before, after)
        places |= {f"{task}{name}": Place(f"t{task}", name) for name in names}
    found = own_subject({"layout": lambda: rows[::-1]}, places, places, held)
    for task, (names, before, after) in enumerate(groups):
        alone = own_subject(
            {"layout": lambda n=names, b=before, a=after: rows_of(n, b, a)}, {n: Place("t", n) for n in names}, names
        )
        assert {name: found[f"{task}{name}"] for name in names} == pytest.approx(alone)


def test_kinds_of_features_are_weighed_by_their_cosines():
    names, before, after = made(4, 8)
    _, shape, shape2 = made(5, 8, strength=1.0)
    places = {name: Place("t", name) for name in names}
    kinds = {"layout": lambda: rows_of(names, before, after), "outline": lambda: rows_of(names, shape, shape2)}
    found = own_subject(kinds, places, names)

    def cosines(b, a):
        b, a = b - b.mean(0), a - a.mean(0)
        return (a @ b.T) / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))

    both = (WEIGHTS["layout"] * cosines(before, after) + WEIGHTS["outline"] * cosines(shape, shape2)) / 1.5
    assert sum(WEIGHTS.values()) == 1.5
    for i, name in enumerate(names):
        others = [j for j in range(8) if j != i]
        expected = both[i, i] - max(both[i, others].max(), both[others, i].max())
        assert found[name] == pytest.approx(expected, abs=1e-5)


def test_a_pair_that_is_not_trusted_speaks_against_nobody_and_is_measured_itself():
    names, before, after = made(7, 14)
    bad = [2, 5, 9]
    wrong_before, wrong_after = before.copy(), after.copy()
    wrong_before[bad], wrong_after[bad] = after[bad], before[bad]  # the wrong way round
    places = {name: Place("t", name) for name in names}
    good = [i for i in range(14) if i not in bad]
    trusted = {names[i] for i in good}
    found = own_subject({"layout": lambda: rows_of(names, wrong_before, wrong_after)}, places, trusted)
    alone = own_subject(
        {"layout": lambda: rows_of([names[i] for i in good], before[good], after[good])},
        {name: places[name] for name in trusted},
        trusted,
    )
    assert set(found) == set(names)
    assert {name: found[name] for name in trusted} == pytest.approx(alone)
    poisoned = own_subject({"layout": lambda: rows_of(names, wrong_before, wrong_after)}, places, names)
    assert any(abs(poisoned[name] - alone[name]) > 0.01 for name in trusted)
    assert own_subject({"layout": lambda: rows_of(names, before, after)}, places, set()) == dict.fromkeys(names, 1.0)


def test_where_nothing_can_be_compared_nothing_speaks_against_a_pair():
    names, before, after = made(2, 6)
    one = {name: Place("t", "same") for name in names}
    assert set(own_subject({"layout": lambda: rows_of(names, before, after)}, one, names).values()) == {1.0}
    few = {name: Place(f"t{i % 2}", name) for i, name in enumerate(names)}
    assert set(own_subject({"layout": lambda: rows_of(names, before, after)}, few, names).values()) == {1.0}


@pytest.mark.slow
def test_a_projection_keeps_cosines_and_is_the_same_every_time():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 6000)).astype(np.float32)
    x[1] = x[0] + 0.3 * x[1]
    P = Projection("layout", 1024).matrix(6000)
    assert np.array_equal(P, Projection("layout", 1024).matrix(6000)) and P.shape == (6000, 1024)
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    gram, projected = unit(x) @ unit(x).T, unit(x @ P) @ unit(x @ P).T
    assert np.abs(gram - projected).max() < 5 / np.sqrt(1024)
