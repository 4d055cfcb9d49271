"""What counts as a failure, in which order, and how many of each kind."""

from lorweb.evaluation.failures import failures, judged, losses
from lorweb.evaluation.glossary import Metric, described
from lorweb.evaluation.results import Measured

DISTANCE, SIMILARITY = Metric("d", "", True), Metric("s", "", False)


def asked(name: str, kind: str = "colour", seen: bool = False, **values: float) -> Measured:
    scores = {model: {"d": value, "s": -value} for model, value in values.items()}
    return Measured(name, f"{kind}/x", kind, "none", seen, "photo", scores)


ANSWERS = [
    asked("won", lorweb=1.0, copy=2.0, base=3.0, single_lora=1.5),
    asked("tied", lorweb=1.0, copy=1.0, base=1.0, single_lora=1.0),
    asked("to-copy", lorweb=2.0, copy=1.5, base=3.0, single_lora=2.5),
    asked("to-all", "style", lorweb=9.0, copy=1.0, base=2.0, single_lora=3.0),
    asked("known", "style", True, lorweb=9.0, copy=1.0, base=2.0, single_lora=3.0),
    asked("not-ours", copy=1.0),
]


def test_worst_first_by_the_best_rival_and_ties_are_no_failure():
    found = failures(ANSWERS, DISTANCE)
    assert [failure.measured.analogy for failure in found] == ["to-all", "to-copy"]
    assert [failure.excess for failure in found] == [8.0, 0.5]
    assert found[0].lost_to == ("copy", "base", "single_lora") and found[1].lost_to == ("copy",)
    assert found[1].rivals == {"copy": 1.5, "base": 3.0, "single_lora": 2.5}


def test_a_similarity_turns_the_order_around():
    lower = [failure.measured.analogy for failure in failures(ANSWERS, DISTANCE)]
    assert [failure.measured.analogy for failure in failures(ANSWERS, SIMILARITY)] == lower
    assert [failure.excess for failure in failures(ANSWERS, SIMILARITY)] == [8.0, 0.5]


def test_counts_add_up():
    rows = losses(ANSWERS, failures(ANSWERS, DISTANCE))
    assert [(row.edit_type, row.analogies, row.lost) for row in rows] == [
        ("colour", 3, 1),
        ("style", 1, 1),
        ("all", 4, 2),
    ]
    assert rows[-1].to == {"copy": 2, "base": 1, "single_lora": 1}
    assert len(judged(ANSWERS)) == 4


def test_the_base_that_is_told_the_edit_and_a_published_checkpoint_are_rivals():
    won = asked("by-words", lorweb=1.0, copy=2.0, base_prompt=0.5, official=0.8, lorweb_shuffled=0.1, codec_truth=0.0)
    (found,) = failures([won], DISTANCE)
    assert found.lost_to == ("base_prompt", "official") and found.excess == 0.5
    assert losses([won], [found])[-1].to == {"copy": 0, "base_prompt": 1, "official": 1}


def test_nothing_asked_is_nothing_lost():
    assert failures([], DISTANCE) == [] and losses([], []) == []
    assert described("nobody knows it").lower_is_better is None
