"""Training images like evaluated ones: by hash within the bits asked for, by content against a plain double loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from lorweb.data.near_evaluation import alike_by_content, alike_by_look, evaluated_pairs


def test_only_pairs_of_analogies_with_new_subjects_count():
    rows = [
        {"subject_seen": False, "exemplar": "b", "query": "a"},
        {"subject_seen": True, "exemplar": "c", "query": "d"},
        {"subject_seen": False, "exemplar": "e", "query": "b"},
    ]
    assert evaluated_pairs(rows) == ["a", "b", "e"]


def test_a_hash_within_the_distance_is_found():
    look = {"train": 0b111, "other": 2**63 - 1, "new": 0}
    assert alike_by_look(["train", "other"], ["new"], look, 2) == {}
    assert alike_by_look(["train", "other"], ["new"], look, 3) == {"train": "new"}


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(1, 9), st.floats(-0.5, 0.99))
def test_content_is_compared_with_every_evaluated_pair(seed, evaluated, trained, least):
    rng = np.random.default_rng(seed)
    names = [f"e{i}" for i in range(evaluated)] + [f"t{i}" for i in range(trained)]
    rows = dict(zip(names, rng.normal(size=(len(names), 4)).astype(np.float32), strict=True))
    own, others = [n for n in names if n[0] == "t"], [n for n in names if n[0] == "e"]

    def chunks():
        order = rng.permutation(names).tolist()
        return [(part, np.stack([rows[n] for n in part])) for part in (order[:3], order[3:]) if part]

    found = alike_by_content(own, others, chunks, least)
    expected = {}
    for name in own:
        near = {other: 1 - cosine(rows[name].astype(float), rows[other].astype(float)) for other in others}
        if near and max(near.values()) >= least:
            expected[name] = max(near, key=near.get)
    assert found == expected


def test_nothing_evaluated_is_nothing_found():
    assert alike_by_content(["t"], [], list, 0.5) == {}
