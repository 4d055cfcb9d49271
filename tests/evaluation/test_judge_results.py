"""Verdicts: how replies are read, and what becomes of wins, ties, and replies that are none."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.data.scorers.judge_reply import BadReply
from lorweb.evaluation.judge_prompts import COMPARE, GRADE, parse_grades, parse_preference
from lorweb.evaluation.judge_results import INVALID, LOSS, TIE, UNANSWERED, WIN, counts, graded, outcome, preferences
from lorweb.evaluation.results import Measured
from lorweb.evaluation.significance import wilson
from tests.evaluation.judges import grade, prefer


def test_valid_replies():
    assert (parse_grades(grade(7, 10)).accuracy, parse_grades(f"```json\n{grade(7, 10)}\n```").preservation) == (7, 10)
    assert parse_preference(prefer(2)).better == 2


@pytest.mark.parametrize(
    ("parse", "reply", "words"),
    [
        (parse_preference, prefer(3), "better is 3, not a whole number from 1 to 2"),
        (parse_preference, prefer(0), "better is 0"),
        (parse_preference, '{"explanation": "x", "better": "1"}', "better is 1, not a whole number"),
        (parse_preference, '{"explanation": "x", "better": true}', "better is true"),
        (parse_preference, '{"better": 1}', "'explanation' is missing"),
        (parse_preference, "Both are equally good.", "not JSON"),
        (parse_grades, grade(11, 5), "accuracy is 11"),
        (parse_grades, grade(5, 0), "preservation is 0"),
        (parse_grades, '{"explanation": 3, "accuracy": 5, "preservation": 5}', "explanation is 3, not a text"),
        (parse_grades, f"Here you are: {grade(5, 5)}", "not JSON"),
        (parse_grades, grade(5, 5)[:-2], "not JSON"),
    ],
)
def test_everything_else_is_refused_and_nothing_is_guessed(parse, reply, words):
    with pytest.raises(BadReply, match=words):
        parse(reply)


def numbers(least, most):
    """Mostly whole numbers in and just outside the range, and what is none."""
    return st.integers(least - 2, most + 2) | st.sampled_from([True, None, "3", 2.0, 2.5])


@given(
    st.fixed_dictionaries(
        {"explanation": st.just("As seen."), "accuracy": numbers(1, 10), "preservation": numbers(1, 10)}
    )
)
def test_grades_are_read_if_and_only_if_they_are_whole_and_in_range(found):
    _check_read(parse_grades, found, [found["accuracy"], found["preservation"]], 10)


@given(st.fixed_dictionaries({"explanation": st.just("As seen."), "better": numbers(1, 2)}))
def test_a_preference_is_read_if_and_only_if_it_is_one_of_two(found):
    _check_read(parse_preference, found, [found["better"]], 2)


def _check_read(parse, found, values, most):
    if all(type(value) is int and 1 <= value <= most for value in values):
        assert [value for value in vars(parse(json.dumps(found))).values() if not isinstance(value, str)] == values
    else:
        with pytest.raises(BadReply):
            parse(json.dumps(found))


def test_the_words_ask_for_what_is_read():
    assert '"accuracy": 1-10, "preservation": 1-10}' in GRADE and '"better": 1 or 2}' in COMPARE
    assert "Image 4 is" in GRADE and "Images 4 and 5 are" in COMPARE


def measured(analogy, task):
    return Measured(analogy, task, "colour", "none", False, "photo", {})


def graded_row(analogy, model, accuracy, preservation=5):
    row = {"id": f"grade:{model}:{analogy}", "analogy": analogy, "model": model, "first": "", "preferred": None}
    return {**row, "accuracy": accuracy, "preservation": preservation, "invalid_replies": 0 if accuracy else 2}


def asked(analogy, *preferred, rival="copy"):
    """The two rows of a pair; `preferred` for lorweb shown first, then for the rival shown first."""
    rows = []
    for first, choice in zip(("lorweb", rival), preferred, strict=True):
        row = {"id": f"compare:{rival}:{analogy}:{first}", "analogy": analogy, "model": rival, "first": first}
        rows.append({**row, "preferred": choice, "accuracy": None, "invalid_replies": 0 if choice else 2})
    return rows


def test_a_preference_counts_only_if_both_orders_agree():
    assert outcome(asked("a", "lorweb", "lorweb")) == WIN and outcome(asked("a", "copy", "copy")) == LOSS
    assert outcome(asked("a", "lorweb", "copy")) == outcome(asked("a", "copy", "lorweb")) == TIE
    assert outcome(asked("a", "lorweb", None)) == outcome(asked("a", None, None)) == INVALID
    assert outcome(asked("a", "lorweb", "lorweb")[:1]) == outcome([]) == UNANSWERED  # an order was never answered


def test_win_rate_by_hand():
    """Task x: win, win, loss; task y: tie; task z: invalid. Per task 2/3 and 1/2, over tasks 0.5833."""
    answers = {"x1": ("lorweb",) * 2, "x2": ("lorweb",) * 2, "x3": ("copy",) * 2, "y1": ("lorweb", "copy")}
    rows = [
        row for analogy, preferred in {**answers, "z1": ("lorweb", None)}.items() for row in asked(analogy, *preferred)
    ]
    known = [measured(analogy, analogy[0]) for analogy in (*answers, "z1")]
    found = preferences(rows, known, ["copy"], 200, 0)["seen"]["copy"]
    assert [found[name] for name in (WIN, TIE, LOSS, INVALID)] == [2, 1, 1, 1]
    assert found["win_rate"]["mean"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (found["win_rate"]["n"], found["win_rate"]["tasks"]) == (4, 2)
    assert found["wilson_95"] == list(wilson(2.5, 4, 0.95))
    assert found["wilson_95"][0] < found["wilson_68"][0] < 2.5 / 4 < found["wilson_68"][1] < found["wilson_95"][1]
    assert found["first_share"] == pytest.approx((1 + 1 + 1 + 2 + 1) / 9)
    assert preferences(rows[::-1], known[::-1], ["copy"], 200, 0)["seen"]["copy"] == found


def test_a_judge_that_always_says_one_gives_ties_only():
    rows = [row for n in range(6) for row in asked(f"a{n}", "lorweb", "copy")]
    found = preferences(rows, [measured(f"a{n}", f"t{n}") for n in range(6)], ["copy"], 200, 0)["seen"]["copy"]
    assert (found[WIN], found[TIE], found[LOSS], found["first_share"]) == (0, 6, 0, 1.0)
    assert found["win_rate"]["mean"] == 0.5
    assert (found["win_rate"]["low"], found["win_rate"]["high"]) == pytest.approx(wilson(3, 6, 0.95))


def test_without_a_valid_pair_there_is_no_rate():
    found = preferences(asked("a", None, "lorweb"), [measured("a", "t")], ["copy"], 10, 0)["seen"]["copy"]
    assert found[INVALID] == 1 and found["win_rate"] is None and found["wilson_68"] is None


def test_a_pair_without_all_its_replies_is_counted_as_such():
    """x1: both orders; x2: one order, x3: none; y1 was asked of another rival as well, and only of that."""
    rows = [*asked("x1", "lorweb", "lorweb"), asked("x2", "lorweb", "lorweb")[0]]
    rows += asked("y1", "base", "base", rival="base")
    found = preferences(rows, [measured(n, n[0]) for n in ("x1", "x2", "x3", "y1")], ["copy", "base"], 50, 0)["seen"]
    assert (found["copy"][WIN], found["copy"][UNANSWERED], found["copy"][INVALID]) == (1, 3, 0)
    assert (found["base"][LOSS], found["base"][UNANSWERED]) == (1, 3)


@pytest.mark.parametrize(("wins", "low", "high"), [("lorweb", 0.4, 1.0), ("copy", 0.0, 0.6)])
def test_all_wins_are_no_certainty(wins, low, high):
    rows = [row for n in range(5) for row in asked(f"a{n}", wins, wins)]
    rate = preferences(rows, [measured(f"a{n}", f"t{n}") for n in range(5)], ["copy"], 200, 0)["seen"]["copy"][
        "win_rate"
    ]
    assert low < rate["high"] and rate["low"] < high and rate["high"] - rate["low"] > 0.4
    assert (rate["low"], rate["high"]) == pytest.approx(wilson(5 if wins == "lorweb" else 0, 5, 0.95))


@pytest.mark.slow
@pytest.mark.parametrize(("share", "least"), [(0.5, 0.9), (0.8, 0.9), (0.95, 0.9), (0.99, 0.87)])
def test_the_interval_of_a_win_rate_covers_it_near_the_ends_too(share, least):
    """Ten tasks, alike or each with a rate of its own, with one or four pairs each.

    Resampled tasks of the last kind have the true rate inside 79 times of 100 at 0.95, and 27 at 0.99.
    """
    generator = np.random.default_rng(0)
    for pairs, spread in ((1, None), (4, None), (4, 5.0)):
        hits = 0
        for _ in range(300):
            rates = [share] * 10 if spread is None else generator.beta(share * spread, (1 - share) * spread, 10)
            won = [(f"{t}.{n}", generator.random() < rate) for t, rate in enumerate(rates) for n in range(pairs)]
            rows = [row for name, ours in won for row in asked(name, *(("lorweb" if ours else "copy"),) * 2)]
            known = [measured(name, name.split(".")[0]) for name, _ in won]
            rate = preferences(rows, known, ["copy"], 2, 0)["seen"]["copy"]["win_rate"]
            hits += rate["low"] <= share <= rate["high"]
        assert hits / 300 > least, (pairs, spread, hits)


def test_grades_are_means_over_tasks_of_valid_ones_and_all_are_counted():
    rows = [graded_row("x1", "lorweb", 8), graded_row("x2", "lorweb", 4), graded_row("y1", "lorweb", 10)]
    rows += [graded_row("y2", "lorweb", None, None), graded_row("x1", "copy", 1)]
    known = [measured(name, name[0]) for name in ("x1", "x2", "y1", "y2")]
    found = graded(rows, known, 100, 0)["seen"]
    assert found["lorweb"]["judge_accuracy"]["mean"] == (6 + 10) / 2 and found["lorweb"]["judge_accuracy"]["n"] == 3
    assert found["copy"]["judge_preservation"]["mean"] == 5
    assert counts(rows, 2) == {"asked": 7, "valid": 4, "invalid": 1, "unanswered": 2, "invalid_replies": 2}
