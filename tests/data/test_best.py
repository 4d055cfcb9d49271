"""Best k of n: by score, then by id, within one edit of one source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.data.best import Draw, not_best


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 4)), max_size=40), st.integers(1, 4))
def test_what_stays_is_what_sorting_each_group_keeps(rows, keep):
    draws = [Draw(f"{i:02d}", f"t{task}", f"s{source}") for i, (task, source, _) in enumerate(rows)]
    score = {draw.id: float(value) for draw, (_, _, value) in zip(draws, rows, strict=True)}
    gone = not_best(draws, score, keep, "quality")
    for task in range(3):
        for source in range(3):
            own = [d.id for d in draws if (d.task, d.source) == (f"t{task}", f"s{source}")]
            best = sorted(own, key=lambda name: (-score[name], name))[:keep]
            assert [name for name in own if name not in gone] == sorted(best)


def test_a_reject_says_which_place_it_took_and_what_would_have_been_enough():
    draws = [Draw(name, "t", "s") for name in "abc"]
    why = not_best(draws, {"a": 0.5, "b": 0.9, "c": 0.7}, 1, "direction")
    assert set(why) == {"a", "c"}
    assert (why["a"].check, why["a"].value, why["a"].threshold) == ("not_best", 0.5, 0.9)
    assert why["a"].reason == "direction 0.5 is number 3 of 3 draws of this edit; 1 stay"


def test_keeping_none_is_refused():
    with pytest.raises(ValueError, match=r"filter\.best.keep is 0; keep at least one"):
        not_best([], {}, 0, "x")
