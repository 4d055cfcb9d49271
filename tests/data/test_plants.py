"""Planted pairs are what they claim to be, and come out the same every time."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lorweb.data.decide import PairPlace
from lorweb.data.plants import KINDS, plan_plants, plant

PLACES = {
    f"{task}-{subject}": PairPlace(f"t{task}", "colour", f"source{subject}", f"s{subject}")
    for task in range(4)
    for subject in range(12)
}


def images(name):
    task, subject = (int(part) for part in name.split("-"))
    before = np.full((16, 16, 3), 10 * subject, np.uint8)
    before[:, 8:] += 5
    return Image.fromarray(before), Image.fromarray(before + 50 * task + 20)


def test_each_kind_is_planted_as_often_and_no_pair_is_used_twice():
    plants = plan_plants(PLACES, 6, seed=0)
    assert Counter(what.kind for what in plants) == dict.fromkeys(KINDS, 6)
    assert len({what.pair for what in plants}) == len(plants)
    assert plan_plants(PLACES, 6, 0) == plants != plan_plants(PLACES, 6, 1)
    with pytest.raises(ValueError, match="48 pairs are too few for 20 plants of 5 kinds each"):
        plan_plants(PLACES, 20, 0)


def test_what_is_planted_is_wrong_in_the_way_it_says():
    noisy = 0
    for what in plan_plants(PLACES, 8, seed=3):
        before, after = (np.asarray(image, int) for image in plant(what, images, 3))
        good_before, good_after = (np.asarray(image, int) for image in images(what.pair))
        again = plant(what, images, 3)
        assert np.array_equal(before, np.asarray(again[0])) and np.array_equal(after, np.asarray(again[1]))
        if what.kind == "swapped":
            assert np.array_equal(before, good_after) and np.array_equal(after, good_before)
            continue
        assert np.array_equal(before, good_before)
        if what.kind == "no_op":
            assert np.abs(after - before).max() <= 2
            noisy += int(not np.array_equal(after, before))
        elif what.kind == "corrupted":
            assert after.std(axis=(0, 1)).max() == 0 or (after[8:] == 128).all() or after.std() > 60
        else:
            here, other = PLACES[what.pair], PLACES[what.other]
            assert np.array_equal(after, np.asarray(images(what.other)[1]))
            assert (here.source == other.source) == (what.kind == "wrong_edit")
            assert (here.task == other.task) == (what.kind == "wrong_subject")
    assert 0 < noisy < 8


def test_where_nothing_can_be_exchanged_nothing_is():
    alone = {f"0-{i}": PairPlace("t", "colour", f"source{i}", "one subject") for i in range(30)}
    with pytest.raises(ValueError, match="too few"):
        plan_plants(alone, 2, 0)
