"""Duplicates: within a task only, the smallest id stays, the order of arrival does not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.data.dedup import HashedPair, duplicates, semantic_duplicates

HASHES = st.integers(0, 2**64 - 1)


def test_identical_hashes_in_one_task_are_one_pair():
    pairs = [HashedPair("b", "t", 1, 2), HashedPair("a", "t", 1, 2), HashedPair("c", "other", 1, 2)]
    assert duplicates(pairs, 0) == {"b": "a"}


def test_both_images_must_agree():
    assert duplicates([HashedPair("a", "t", 1, 2), HashedPair("b", "t", 1, 3)], 0) == {}


def test_distance_counts_differing_bits_of_each_image():
    pairs = [HashedPair("a", "t", 0b0000, 0), HashedPair("b", "t", 0b0011, 0), HashedPair("c", "t", 0b0111, 0b1)]
    assert duplicates(pairs, 1) == {"c": "b"}
    assert duplicates(pairs, 2) == {"b": "a"}
    assert duplicates(pairs, 3) == {"b": "a", "c": "a"}


@given(st.lists(st.tuples(HASHES, st.integers(0, 3)), max_size=30), st.integers(0, 6), st.randoms())
def test_order_does_not_matter_and_what_stays_is_distinct(hashes, distance, random):
    pairs = [HashedPair(f"{i:03d}", "t", before, after) for i, (before, after) in enumerate(hashes)]
    found = duplicates(pairs, distance)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert duplicates(shuffled, distance) == found
    kept = [p for p in pairs if p.id not in found]
    assert duplicates(kept, distance) == {}
    assert all(keeper not in found and keeper < gone for gone, keeper in found.items())


@given(st.lists(st.tuples(HASHES, st.integers(0, 2**10)), max_size=25), st.integers(0, 12), st.integers(0, 2))
def test_the_index_finds_what_comparing_all_finds(hashes, distance, flips):
    """The oracle compares every pair; some hashes are made from others by flipping bits, so that neighbours occur."""
    rows = [(before, after) for before, after in hashes] + [(before ^ flips, after) for before, after in hashes]
    pairs = [HashedPair(f"{i:03d}", "t", before, after) for i, (before, after) in enumerate(rows)]
    kept, expected = [], {}
    for pair in pairs:
        near = (
            k for k in kept if max((k.before ^ pair.before).bit_count(), (k.after ^ pair.after).bit_count()) <= distance
        )
        same = next(near, None)
        if same is None:
            kept.append(pair)
        else:
            expected[pair.id] = same.id
    assert duplicates(pairs, distance) == expected


def features(seed, count):
    rng = np.random.default_rng(seed)
    return [(f"{i:03d}", *rng.normal(size=(2, 16)).astype(np.float32)) for i in range(count)]


def test_content_is_compared_within_a_task_and_on_both_sides():
    rows = features(0, 12)
    name, before, after = rows[3]
    rows += [("same", before * 2, after * 3), ("half", before, -after), ("elsewhere", before, after)]
    group = {row[0]: "t" for row in rows} | {"elsewhere": "u"}
    assert semantic_duplicates(lambda: rows, group, 0.99) == {"same": name}
    assert semantic_duplicates(lambda: rows[::-1], group, 0.99) == {"same": name}


@pytest.mark.parametrize("held", [1, 5, 1000])
def test_passes_over_the_features_change_nothing_but_memory(held):
    rows = features(1, 40)
    rows += [(f"{name}-again", before, after) for name, before, after in rows[::3]]
    group = {row[0]: f"t{int(row[0][:3]) % 7}" for row in rows}
    passes = []

    def vectors():
        passes.append(1)
        return rows

    found = semantic_duplicates(vectors, group, 0.999, held)
    assert found == {row[0]: row[0][:3] for row in rows if row[0].endswith("again")}
    assert len(passes) == {1: 7, 5: 7, 1000: 1}[held]


def test_hashes_by_ten_thousands_take_seconds_not_hours():
    rng = np.random.default_rng(2)
    values = rng.integers(0, 2**63, (30_000, 2)).tolist()
    values[27_777] = values[5]
    pairs = [HashedPair(f"{i:06d}", "t", before, after) for i, (before, after) in enumerate(values)]
    assert duplicates(pairs, 4) == {"027777": "000005"}
