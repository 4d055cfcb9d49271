"""Duplicates: within a task only, the smallest id stays, the order of arrival does not matter."""

from hypothesis import given
from hypothesis import strategies as st

from lorweb.data.dedup import HashedPair, duplicates

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
