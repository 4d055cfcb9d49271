"""Checks: the first that fails decides, bounds are inclusive, and every refusal says what was measured."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.config import Check
from lorweb.data.checks import Refusal, first_failure, reject, survival
from lorweb.data.rejects import Rejected
from lorweb.records import REJECT, load_scores


def check(score, low=None, high=None, types=()):
    return Check(score=score, min=low, max=high, edit_types=types)


def test_the_first_failing_check_wins_and_keeps_value_and_threshold():
    checks = [check("change", 0.1), check("nsfw", None, 0.5), check("detail", 0.2)]
    why = first_failure("colour", {"change": 0.3, "nsfw": 0.9, "detail": 0.0}, checks)
    assert why is not None
    assert (why.check, why.value, why.threshold) == ("nsfw_max", 0.9, 0.5)
    assert "nsfw 0.9 is above the most allowed, 0.5" in why.reason


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_bounds_belong_to_what_they_allow(value, one, other):
    low, high = sorted((one, other))
    why = first_failure("style", {"change": value}, [check("change", low, high)])
    assert (why is None) == (low <= value <= high)


def test_a_check_speaks_only_about_its_edit_types():
    checks = [check("direction", 0.5, types=("style",))]
    assert first_failure("geometry", {"direction": -1.0}, checks) is None
    assert first_failure("style", {"direction": -1.0}, checks).check == "direction_min"


def test_what_is_not_a_number_passes_nothing():
    why = first_failure("style", {"change": math.nan}, [check("change", 0.0)])
    row = reject(Refusal("x", "filter", {"change": math.nan, "nsfw": 0.25}), why)
    assert row["value"] is None and row["threshold"] == 0.0
    assert load_scores(row["scores"]) == {"nsfw": 0.25}


def test_a_check_on_an_unknown_score_names_those_there_are():
    with pytest.raises(ValueError, match="'chnage'; there are only change, nsfw"):
        first_failure("style", {"change": 0.1, "nsfw": 0.1}, [check("chnage", 0.0)])


def test_a_reject_row_has_exactly_the_fields_of_its_record():
    row = reject(Refusal("x", "collect", {}), Rejected("truncated", "the file ends early"))
    assert list(row) == REJECT.names
    assert row["value"] is None and row["scores"] == "{}"


def test_survival_falls_with_a_minimum_and_rises_with_a_maximum():
    rows = [("colour", {"change": i / 100}) for i in range(100)] + [("style", {"change": 0.5})]
    table = survival(rows, [check("change", 0.1, 0.9, types=("colour",))])
    low = [(r["threshold"], r["kept"]) for r in table if r["check"] == "change_min"]
    high = [(r["threshold"], r["kept"]) for r in table if r["check"] == "change_max"]
    assert len(low) == len(high) == 21
    assert {r["edit_type"] for r in table} == {"colour"}
    assert low == sorted(low, key=lambda tk: (tk[0], -tk[1])) and low[0] == (0.0, 1.0)
    assert high[-1] == (0.99, 1.0) and high[0][1] == 0.01
