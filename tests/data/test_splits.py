"""Splits: no subject and no image on two sides, the asked shares, the same for the same seed; leaks are found."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.data.leaks import find_leaks
from lorweb.data.splits import (
    Caps,
    Counts,
    PairFacts,
    Shares,
    evaluation_analogies,
    hard_positives,
    split_subjects,
    subject_groups,
    training_pairs,
)
from lorweb.records import ANALOGY

HOLDOUT = {"t0": "none", "t1": "none", "t2": "value", "t3": "edit"}
SHARES, COUNTS = Shares(0.2, 0.1), Counts(3, 2)


def facts(subject, task, category="photo", crop=0):
    name = f"{task}-{subject}-{crop}"
    return PairFacts(name, task, "colour", subject, category, f"do {task}", f"{subject}-{crop}", f"{name}-after")


def world(photos=20, avatars=30, crops=2):
    subjects = [(f"p{i}", "photo", crops) for i in range(photos)] + [(f"a{i}", "avatar:x", 1) for i in range(avatars)]
    return [facts(s, t, c, crop) for s, c, n in subjects for t in HOLDOUT for crop in range(n)]


def everything(pairs, seed=0, shares=SHARES):
    split = split_subjects(pairs, shares, seed)
    train = training_pairs(pairs, split, HOLDOUT, Caps(1000, 1000))
    return split, train, evaluation_analogies(pairs, split, HOLDOUT, COUNTS)


def leaks(pairs, train, analogies):
    return find_leaks({p.id: p for p in pairs}, [p.id for p in train], analogies, HOLDOUT)


def test_shares_hold_in_every_category():
    split = split_subjects(world(), SHARES, 0)
    photos = Counter(side for subject, side in split.items() if subject[0] == "p")
    avatars = Counter(side for subject, side in split.items() if subject[0] == "a")
    assert photos == {"train": 14, "test": 4, "val": 2}
    assert avatars == {"train": 21, "test": 6, "val": 3}


def test_a_seed_decides_and_the_order_of_pairs_does_not():
    pairs = world()
    assert (
        split_subjects(pairs, SHARES, 1) == split_subjects(pairs[::-1], SHARES, 1) != split_subjects(pairs, SHARES, 2)
    )


def test_subjects_the_base_has_seen_always_train():
    split = split_subjects(world(), SHARES, 0, ["p1*", "p2"])
    known = [s for s in split if s.startswith("p1") or s == "p2"]
    assert len(known) == 12 and {split[s] for s in known} == {"train"}
    assert Counter(split.values())["test"] == 10


def test_subjects_that_share_an_image_stay_together():
    pairs = world(photos=6, avatars=0)
    same = [replace(p, before="the same") if p.subject in ("p1", "p4") else p for p in pairs]
    groups = subject_groups(same)
    assert groups["p1"] == groups["p4"] and len(set(groups.values())) == 5
    for seed in range(10):
        split = split_subjects(same, Shares(0.4, 0.2), seed)
        assert split["p1"] == split["p4"]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(0, 2**31),
    st.floats(0.0, 0.45),
    st.floats(0.0, 0.45),
    st.data(),
)
def test_no_world_leaks(photos, avatars, seed, test, val, data):
    pairs = world(photos, avatars)
    twins = data.draw(st.lists(st.sampled_from(range(len(pairs))), max_size=6))
    pairs = [replace(p, after="twin") if i in twins else p for i, p in enumerate(pairs)]
    split, train, analogies = everything(pairs, seed, Shares(test, val))
    assert set(split) == {p.subject for p in pairs}
    assert leaks(pairs, train, analogies) == []


def test_training_sees_no_held_out_task_and_keeps_its_limit():
    pairs = world()
    split = split_subjects(pairs, SHARES, 0)
    train = training_pairs(pairs, split, HOLDOUT, Caps(10, 1000))
    assert Counter(p.task for p in train) == {"t0": 10, "t1": 10}
    assert {split[p.subject] for p in train} == {"train"}
    assert set(train) <= set(training_pairs(pairs, split, HOLDOUT, Caps(20, 1000)))


def test_no_image_starts_more_training_pairs_than_its_cap():
    pairs = world()
    split = split_subjects(pairs, SHARES, 0)
    assert max(Counter(p.before for p in training_pairs(pairs, split, HOLDOUT, Caps(1000, 1000))).values()) == 2
    train = training_pairs(pairs, split, HOLDOUT, Caps(1000, 1))
    images = Counter(p.before for p in train)
    assert set(images.values()) == {1}
    assert set(images) == {p.before for p in pairs if split[p.subject] == "train"}
    assert set(Counter(p.task for p in train)) == {"t0", "t1"}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 1)), max_size=30))
def test_combinations_are_counted_as_listing_them_would(rows):
    pairs = [facts(f"s{s}-{c}", f"t{t}", f"kind{c}", crop) for crop, (t, s, c) in enumerate(rows)]
    listed = [(x, y) for x in pairs for y in pairs if x.task == y.task and x.subject != y.subject]
    across = [(x, y) for x, y in listed if x.category != y.category]
    assert hard_positives(pairs) == {"analogies": len(listed), "across_categories": len(across)}


def test_analogies_fill_every_cell_with_two_subjects_each():
    pairs = world()
    split, _, analogies = everything(pairs)
    by_id = {p.id: p for p in pairs}
    cells = Counter((a["split"], a["holdout"], a["subject_seen"]) for a in analogies)
    assert cells == {
        ("val", "none", False): 4,
        ("val", "value", False): 2,
        ("val", "edit", False): 2,
        ("test", "none", False): 6,
        ("test", "value", False): 3,
        ("test", "edit", False): 3,
        ("test", "value", True): 1,
        ("test", "edit", True): 1,
    }
    assert all(list(a) == ANALOGY.names for a in analogies)
    assert len({a["id"] for a in analogies}) == len(analogies)
    for a in analogies:
        exemplar, query = by_id[a["exemplar"]], by_id[a["query"]]
        assert exemplar.subject != query.subject and exemplar.task == query.task == a["task"]
        assert {split[exemplar.subject], split[query.subject]} == {"train" if a["subject_seen"] else a["split"]}


def test_each_leak_is_found_and_names_its_ids():
    pairs = world()
    split, train, analogies = everything(pairs)
    assert leaks(pairs, train, analogies) == []
    test_pair = next(p for p in pairs if split[p.subject] == "test" and p.task == "t0")
    seen = leaks(pairs, [*train, test_pair], analogies)
    assert any(f"uses subject {test_pair.subject}" in leak for leak in seen)
    held_out = next(p for p in pairs if split[p.subject] == "train" and p.task == "t2")
    assert any(
        f"held-out task t2 (value) trains on pair {held_out.id}" in leak
        for leak in leaks(pairs, [*train, held_out], analogies)
    )
    used = next(a for a in analogies if not a["subject_seen"])["query"]
    stolen = [replace(p, after=train[0].before) if p.id == used else p for p in pairs]
    assert any(f"an image of pair {used} that training pair" in leak for leak in leaks(stolen, train, analogies))
    same = [{**analogies[0], "exemplar": analogies[0]["query"]}]
    assert any("on both sides" in leak for leak in leaks(pairs, train, same))
    unseen = next(a for a in analogies if a["holdout"] == "value")
    assert any("misstates" in leak for leak in leaks(pairs, train, [{**unseen, "holdout": "none"}]))


@pytest.mark.parametrize("subjects", [0, 1])
def test_a_task_without_two_subjects_has_no_analogy(subjects):
    pairs = [facts(f"s{i}", "t0", crop=crop) for i in range(subjects) for crop in range(4)]
    assert evaluation_analogies(pairs, {f"s{i}": "test" for i in range(subjects)}, HOLDOUT, COUNTS) == []
