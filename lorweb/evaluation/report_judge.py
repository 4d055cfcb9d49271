"""What the page and the card show of a judge: who it is, how many questions it answered, whom it prefers."""

from collections.abc import Mapping
from typing import Any, Final

from lorweb.evaluation.judge_results import INVALID, LOSS, TIE, UNANSWERED, WIN
from lorweb.evaluation.results import CELLS

COUNTS: Final = ("asked", "valid", "invalid", "unanswered", "invalid_replies")
OUTCOMES: Final = (WIN, TIE, LOSS, INVALID, UNANSWERED)
"""Of comparisons, as lorweb fared; those that a verdict does not count are left out."""
Verdicts = Mapping[str, Any]
"""What reports/judge.json holds; {} and {"judge": None} are no judge."""


def judge_name(verdicts: Verdicts) -> str | None:
    """Name and revision of the judge; None without one."""
    judge = verdicts.get("judge")
    return f"{judge['model']} {judge['revision']}" if judge else None


def judge_counts(verdicts: Verdicts) -> dict[str, int]:
    """Questions asked, and what became of them."""
    return {name.replace("_", " "): verdicts[name] for name in COUNTS if name in verdicts}


def preference_rows(verdicts: Verdicts) -> list[dict[str, Any]]:
    """A row per main cell and rival: outcomes, the win rate, its intervals, and the share of first places."""
    found = verdicts.get("preferences", {})
    return [
        {
            "cell": cell,
            "rival": rival,
            "outcomes": {name: versus.get(name, 0) for name in outcome_names(verdicts)},
            "win_rate": versus["win_rate"],
            "wilson": versus["wilson_95"],
            "first_share": versus["first_share"],
        }
        for cell in CELLS
        for rival, versus in found.get(cell, {}).items()
    ]


def outcome_names(verdicts: Verdicts) -> list[str]:
    """The outcomes that are counted."""
    rows = [versus for rivals in verdicts.get("preferences", {}).values() for versus in rivals.values()]
    return [name for name in OUTCOMES if any(name in versus for versus in rows)]
