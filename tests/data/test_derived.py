"""Derived tasks: the edit backwards, and from one edit to another; and how often tasks are drawn."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.data.balance import Kind, task_weights
from lorweb.data.derived import composed_pairs, inverse_pairs
from lorweb.data.splits import PairFacts
from lorweb.training.sampler import AnalogySampler, TrainPair


def fact(task, subject, before=None):
    return PairFacts(
        f"{task}-{subject}", task, "colour", subject, "photo", f"do {task}", before or subject, f"{task}{subject}"
    )


PAIRS = [fact(task, f"s{i}") for task in ("hue/a", "hue/b", "blur/a") for i in range(4)]


def test_an_inverse_pair_is_the_same_images_in_the_other_order():
    found = inverse_pairs(PAIRS, ["hue/*"])
    assert {pair.task for pair in found} == {"undo:hue/a", "undo:hue/b"} and len(found) == 8
    for pair in found:
        assert (pair.before_side, pair.after_side, pair.before_pair) == ("after", "before", pair.after_pair)
        assert pair.instruction == f"undo this: do {pair.task.removeprefix('undo:')}"
    assert len({pair.pair for pair in found} | {pair.id for pair in PAIRS}) == 20
    with pytest.raises(ValueError, match="no trained task matches 'style/\\*'; correct or drop it"):
        inverse_pairs(PAIRS, ["style/*"])


def test_a_composed_pair_goes_from_one_edit_of_an_image_to_another_edit_of_it():
    of = {pair.id: pair for pair in PAIRS}
    found = composed_pairs(PAIRS, 4, seed=0)
    tasks = defaultdict(list)
    for pair in found:
        one, other = of[pair.before_pair], of[pair.after_pair]
        assert one.before == other.before and one.task != other.task
        assert (pair.before_side, pair.after_side) == ("after", "after")
        assert pair.task == f"{one.task}>{other.task}" and pair.subject == one.subject
        tasks[pair.task].append(pair.subject)
    assert len(tasks) == 4 and all(len(set(subjects)) == 4 for subjects in tasks.values())
    assert {p.pair for p in composed_pairs(PAIRS, 2, 0)} < {p.pair for p in found}
    assert {p.task for p in composed_pairs(PAIRS, 2, 1)} != {p.task for p in composed_pairs(PAIRS, 2, 0)}
    assert composed_pairs(PAIRS, 0, 0) == []


def test_tasks_without_common_sources_cannot_be_composed():
    apart = [fact("x/a", f"s{i}") for i in range(3)] + [fact("x/b", f"t{i}") for i in range(3)] + [fact("x/b", "s0")]
    with pytest.raises(ValueError, match="only 0 couples of the 2 trained tasks"):
        composed_pairs(apart, 1, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=60))
def test_weights_give_what_they_promise(rows):
    kinds = [Kind(f"t{task}", f"e{task % 3}") for task, _ in rows]
    count = Counter(kind.task for kind in kinds)
    assert set(task_weights(kinds, "task").values()) == {1}
    assert task_weights(kinds, "pairs") == dict(sorted(count.items()))
    share = Counter()
    for task, weight in task_weights(kinds, "edit_type").items():
        share[f"e{int(task[1:]) % 3}"] += weight
    assert max(share.values()) - min(share.values()) <= 6
    root = task_weights(kinds, "sqrt")
    assert all(abs(root[task] ** 2 / 1e6 - count[task]) < 0.01 * count[task] for task in count)


def test_the_sampler_draws_tasks_by_weight():
    pairs = [
        TrainPair(task, f"s{i}", f"{task}{i}", "", weight)
        for task, weight in (("a", 1), ("b", 3), ("c", 6))
        for i in range(3)
    ]
    made = AnalogySampler(pairs, 0, 10, 1.0)
    drawn = Counter(d.task for step in range(600) for d in made.batch(step))
    assert [drawn[task] / 6000 for task in "abc"] == pytest.approx([0.1, 0.3, 0.6], abs=0.02)


def test_equal_weights_draw_what_they_always_drew():
    """Another scale of the same weights is the same distribution; weight 1 is a plain uniform choice."""
    plain = [TrainPair(f"t{t}", f"s{i}", f"{t}-{i}", "") for t in range(5) for i in range(3)]
    made = AnalogySampler(plain, 3, 4, 1.0)
    from lorweb.training.sampler import stable_seed

    for step in range(20):
        draw = stable_seed("analogy", 3, step, 0, "task")
        assert made.slot(step, 0).task == f"t{draw % 5}"
