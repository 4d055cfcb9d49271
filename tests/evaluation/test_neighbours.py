"""Which training tasks are near: by hand, by a plain recomputation, and on disk."""

import numpy as np
import pytest
import torch

from lorweb.evaluation.neighbours import (
    PER_TASK,
    TaskMixes,
    nearest,
    read_task_mixes,
    task_mixes,
    training_analogies,
)
from lorweb.training.sampler import AnalogySampler, TrainPair

PAIRS = [TrainPair(f"t{n % 3}", f"s{n % 5}", f"p{n:02d}", "do it") for n in range(60)]


def test_near_is_the_cosine_without_what_all_tasks_share():
    draw = np.random.default_rng(0)
    train = TaskMixes(tuple("abcde"), draw.random((5, 3, 4)) + 10)  # what they share would drown the rest
    test = TaskMixes(("like-c", "unlike-c"), np.stack([2 * train.mixes_TLN[2], train.mixes_TLN[2]]))
    middle = train.mixes_TLN.mean(0)
    test.mixes_TLN[0] = middle + 2.5 * (train.mixes_TLN[2] - middle)
    test.mixes_TLN[1] = middle - (train.mixes_TLN[2] - middle)
    found = nearest(test, train, 5)
    assert found["like-c"][0] == ("c", pytest.approx(1.0)) and found["unlike-c"][-1] == ("c", pytest.approx(-1.0))
    for task, mix in zip(test.tasks, test.mixes_TLN, strict=True):
        for name, cosine in found[task]:
            x, y = (value.ravel() for value in (mix - middle, train.mixes_TLN[train.tasks.index(name)] - middle))
            assert cosine == pytest.approx(np.dot(x, y) / np.sqrt(np.dot(x, x) * np.dot(y, y)))
        assert [cosine for _, cosine in found[task]] == sorted((cosine for _, cosine in found[task]), reverse=True)
    assert len(nearest(test, train, 2)["like-c"]) == 2


def test_one_training_task_and_none():
    one = TaskMixes(("a",), np.ones((1, 2, 2)))
    assert nearest(one, one, 3) == {"a": [("a", 0.0)]}
    none = task_mixes({}, lambda asked: pytest.fail("asked"))
    assert none.tasks == () and nearest(one, none, 3) == {} and nearest(none, one, 3) == {}


def test_training_analogies_have_two_subjects_and_are_few():
    found = training_analogies(PAIRS, 0)
    subject, task = {p.pair: p.subject for p in PAIRS}, {p.pair: p.task for p in PAIRS}
    assert list(found) == ["t0", "t1", "t2"] and all(len(mine) == PER_TASK for mine in found.values())
    for name, mine in found.items():
        assert all(subject[e] != subject[q] and task[e] == task[q] == name for e, q in mine)
    assert training_analogies(PAIRS[::-1], 0) == found
    alone = [TrainPair("x", "s", "p1", ""), TrainPair("x", "s", "p2", "")]
    assert training_analogies(alone, 0) == {}


def test_with_a_pool_only_encoded_grids_are_asked():
    sampler = AnalogySampler(PAIRS, 0, 1, 1.0)
    pool = {(e.pair, q.pair) for e, q in map(sampler.pooled, range(7))}
    found = training_analogies(PAIRS, 7)
    assert {pair for mine in found.values() for pair in mine} == pool


def test_means_are_of_the_coefficients_that_are_asked():
    values = {("a", "b"): torch.full((2, 3), 1.0), ("c", "d"): torch.full((2, 3), 4.0)}
    found = task_mixes({"t": list(values), "none": []}, lambda asked: torch.stack([values[pair] for pair in asked]))
    assert found.tasks == ("t",) and np.array_equal(found.mixes_TLN, np.full((1, 2, 3), 2.5))


def test_on_disk_and_of_another_basis(tmp_path):
    mixes = TaskMixes(("a", "b"), np.random.default_rng(1).random((2, 3, 4)).astype(np.float32).astype(float))
    for name in ("one", "two"):
        mixes.save(tmp_path / name, "f" * 64)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = read_task_mixes(tmp_path / "one", "f" * 64)
    assert found.tasks == mixes.tasks and np.array_equal(found.mixes_TLN, mixes.mixes_TLN)
    with pytest.raises(ValueError, match=r"computed on the basis f+, not on 0+; run the evaluate stage"):
        read_task_mixes(tmp_path / "one", "0" * 64)
    from lorweb.basis.files import write_safetensors

    write_safetensors(tmp_path / "other", {"x": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="holds no mixes of tasks"):
        read_task_mixes(tmp_path / "other", "f" * 64)
    with pytest.raises(FileNotFoundError):
        read_task_mixes(tmp_path / "absent", "f" * 64)
