"""Rejects and the checks that make them: a pair stays if every check that applies to its edit type holds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lorweb.data.rejects import Rejected
from lorweb.records import dump_scores

if TYPE_CHECKING:  # config reads the readers' models, and readers make rejects
    from lorweb.config import Check

SURVIVAL_POINTS: Final = 21  # thresholds per curve, at the 0, 5, ... 100 % quantiles of the scores


@dataclass(frozen=True)
class Refusal:
    """Where a row left: its id, the stage, and what had been measured of it by then."""

    id: str
    stage: str
    scores: Mapping[str, float]


def reject(where: Refusal, why: Rejected) -> dict[str, Any]:
    """A row of `records.REJECT`: which rule refused what, and why. A value that is no number is null."""
    value, threshold = (None if v is None or math.isnan(v) else float(v) for v in (why.value, why.threshold))
    return {
        "id": where.id,
        "stage": where.stage,
        "check": why.check,
        "reason": why.reason,
        "value": value,
        "threshold": threshold,
        "scores": dump_scores({name: score for name, score in where.scores.items() if not math.isnan(score)}),
    }


def applies(check: "Check", edit_type: str) -> bool:
    """Whether a check speaks about this edit type; an empty list means all of them."""
    return not check.edit_types or edit_type in check.edit_types


def first_failure(edit_type: str, scores: Mapping[str, float], checks: Sequence["Check"]) -> Rejected | None:
    """The first check, in the order given, that a pair fails; None if it passes all.

    A bound is part of what it allows; a score that is not a number passes nothing. Raises ValueError for a check on a
    score that nobody measures.
    """
    for check in checks:
        if check.score not in scores:
            raise ValueError(
                f"filter.checks names the score '{check.score}'; there are only {', '.join(sorted(scores))}"
            )
        if not applies(check, edit_type):
            continue
        value = scores[check.score]
        for bound, limit, fails in (
            ("min", check.min, check.min is not None and not value >= check.min),
            ("max", check.max, check.max is not None and not value <= check.max),
        ):
            if fails and limit is not None:
                side = "below the least" if bound == "min" else "above the most"
                reason = f"{check.score} {value:.4g} is {side} allowed, {limit:g}"
                return Rejected(f"{check.score}_{bound}", reason, value, limit)
    return None


def survival(rows: Iterable[tuple[str, Mapping[str, float]]], checks: Sequence["Check"]) -> list[dict[str, Any]]:
    """How many pairs each bound would keep, were it the only one: `check, edit_type, threshold, kept` (0..1).

    Args:
        rows: (edit type, scores) of every scored pair.
        checks: those of the parameters; each bound gives one curve per edit type it applies to.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for edit_type, scores in rows:
        for name, value in scores.items():
            values.setdefault(edit_type, {}).setdefault(name, []).append(value)
    table: list[dict[str, Any]] = []
    bounds = {(c.score, b): c for c in checks for b, limit in (("min", c.min), ("max", c.max)) if limit is not None}
    for (score, bound), check in sorted(bounds.items()):
        for edit_type in sorted(t for t in values if applies(check, t)):
            ranked = sorted(v for v in values[edit_type][score] if not math.isnan(v))
            steps = [
                ranked[round(p / (SURVIVAL_POINTS - 1) * (len(ranked) - 1))] for p in range(SURVIVAL_POINTS) if ranked
            ]
            for threshold in sorted({float(f"{step:.6g}") for step in steps}):
                kept = sum(v >= threshold if bound == "min" else v <= threshold for v in ranked)
                share = round(kept / len(values[edit_type][score]), 4)
                name = f"{score}_{bound}"
                table.append({"check": name, "edit_type": edit_type, "threshold": threshold, "kept": share})
    return table
