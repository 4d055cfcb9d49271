"""From verdicts to what is reported: grades and win rates per task, then over tasks, with how many were no verdict."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lorweb.evaluation.aggregate import CONFIDENCE, Row, Summary, aggregate, resampled
from lorweb.evaluation.gate import MODEL as OURS
from lorweb.evaluation.results import Measured
from lorweb.evaluation.significance import LEVELS, wilson

GRADES: Final = ("accuracy", "preservation")
WIN, TIE, LOSS, INVALID, UNANSWERED = "wins", "ties", "losses", "invalid", "unanswered"
POINTS: Final = {WIN: 1.0, TIE: 0.5, LOSS: 0.0}  # of lorweb, in the win rate
Judged = Mapping[str, Any]  # a row of lorweb.evaluation.judging.JUDGED


def graded(judged: Iterable[Judged], measured: Sequence[Measured], bootstrap: int, seed: int) -> dict[str, Any]:
    """{cell: {model: {"judge_accuracy": Summary, "judge_preservation": Summary}}} of valid grades, 1..10."""
    of = {m.analogy: m for m in measured}
    rows = [
        Row(of[row["analogy"]].task, cell, row["model"], {f"judge_{name}": float(row[name]) for name in GRADES})
        for row in sorted(judged, key=lambda row: str(row["id"]))
        if not row["first"] and row["accuracy"] is not None
        for cell in of[row["analogy"]].cells
    ]
    return aggregate(rows, bootstrap, seed)


def preferences(
    judged: Iterable[Judged], measured: Sequence[Measured], rivals: Sequence[str], bootstrap: int, seed: int
) -> dict[str, Any]:
    """{cell: {rival: how often lorweb is preferred}}, of pairs of questions, one for each order of the two answers.

    lorweb wins or loses where both orders agree; where they do not it is a tie; where a reply is no verdict the pair is
    `invalid`, where there is none it is `unanswered`, and counts nowhere else. `win_rate` is wins + ties / 2 over valid
    pairs, mean per task, then over tasks, with Wilson's 95 % interval over tasks (over the pairs of a lone task): all
    wins or all losses leave nothing to resample. `wilson_68` and `wilson_95` are Wilson's intervals of the valid pairs,
    as if each were a task of its own. `first_share` is how often a valid reply prefers whatever was shown first: 0.5 is
    a judge without a preference for a place.
    """
    of = {m.analogy: m for m in measured}
    pairs: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for row in judged:
        if row["first"]:
            pairs[row["model"], row["analogy"]].append(row)
    outcomes: dict[str, dict[str, list[tuple[str, str, list[Judged]]]]] = defaultdict(lambda: defaultdict(list))
    for rival in rivals:
        for analogy, m in sorted(of.items()):
            rows = pairs[rival, analogy]
            for cell in m.cells:
                outcomes[cell][rival].append((m.task, outcome(rows), rows))
    return {
        cell: {rival: _win_rate(cell, found, bootstrap, seed) for rival, found in sorted(of_cell.items())}
        for cell, of_cell in sorted(outcomes.items())
    }


def outcome(rows: Sequence[Judged]) -> str:
    """Of the replies to both orders: WIN or LOSS of lorweb, TIE, INVALID, or UNANSWERED where a reply is missing."""
    preferred = [row["preferred"] for row in rows]
    if len(preferred) != 2:
        return UNANSWERED
    if None in preferred:
        return INVALID
    if preferred[0] != preferred[1]:
        return TIE
    return WIN if preferred[0] == OURS else LOSS


def counts(judged: Sequence[Judged], unanswered: int) -> dict[str, int]:
    """Questions asked, those with a valid verdict, without one, and without any reply; and all invalid replies."""
    valid = sum(row["accuracy"] is not None or row["preferred"] is not None for row in judged)
    return {
        "asked": len(judged) + unanswered,
        "valid": valid,
        "invalid": len(judged) - valid,
        "unanswered": unanswered,
        "invalid_replies": sum(int(row["invalid_replies"]) for row in judged),
    }


def _win_rate(cell: str, found: Sequence[tuple[str, str, list[Judged]]], bootstrap: int, seed: int) -> dict[str, Any]:
    number = Counter(result for _, result, _ in found)
    shown: dict[str, Any] = {name: number[name] for name in (WIN, TIE, LOSS, INVALID, UNANSWERED)}
    replies = [row for _, _, rows in found for row in rows if row["preferred"] is not None]
    shown["first_share"] = sum(row["preferred"] == row["first"] for row in replies) / len(replies) if replies else None
    valid = number[WIN] + number[TIE] + number[LOSS]
    if not valid:
        return {**shown, "win_rate": None, **dict.fromkeys(LEVELS)}
    points = [Row(task, cell, OURS, {"win_rate": POINTS[result]}) for task, result, _ in found if result in POINTS]
    summary: Summary = aggregate(points, bootstrap, seed)[cell][OURS]["win_rate"]
    units = resampled(summary)
    summary["low"], summary["high"] = wilson(summary["mean"] * units, units, CONFIDENCE)
    won = number[WIN] + number[TIE] / 2
    return {**shown, "win_rate": summary, **{name: list(wilson(won, valid, level)) for name, level in LEVELS.items()}}
