"""What a stage reports of itself: counts and rates for metrics/<stage>.json, and one closing line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def count(
    rows_in: int, kept: int, rejects: Sequence[Mapping[str, Any]], functions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The metrics that every row stage reports: what came in, what went on, how many each check refused, and how fast
    each function went (`_pace.Pace.report`).
    """
    checks = Counter(str(row["check"]) for row in rejects)
    rejected = dict(sorted(checks.items()))
    return {"rows_in": rows_in, "kept": kept, "rejected": rejected, "functions": dict(functions)}


def closing_line(name: str, metrics: Mapping[str, Any]) -> str:
    """What a stage has come to, in one line: rows, rejects by check, rates, and the share of the speed of light."""
    parts = [f"{name}: {metrics['seconds']} s"]
    if "rows_in" in metrics:
        kept = f", {metrics['kept']} kept" if "kept" in metrics else ""
        parts.append(f"{metrics['rows_in']} rows{kept}")
    refused = metrics.get("rejected", {})
    if refused:
        parts.append(f"{sum(refused.values())} rejected ({', '.join(f'{c} {n}' for c, n in sorted(refused.items()))})")
    for function, pace in metrics.get("functions", {}).items():
        if "rows_per_s" in pace:
            light = f"{pace['of_light']:.0%} of its speed of light ({pace['light_rows_per_s']:g})"
            parts.append(f"{function} {pace['rows_per_s']:g} rows/s, {light}")
    return "; ".join(parts)
