"""What is claimed of differences between two models: sentences, by the headline and by what contradicts it.

A difference is told from zero where both of its measures say so, the interval and the p value; otherwise nothing is
claimed of it.
"""

from collections.abc import Mapping
from typing import Any, Final

from lorweb.evaluation.gate import MODEL as OURS
from lorweb.evaluation.gate import Metrics
from lorweb.evaluation.glossary import Metric, described

SUMMED_UP: Final = ("seen", "unseen")
"""The two cells that sum the others up."""
LEVEL: Final = 0.05  # that a p value must be below
UNTOLD: Final = "not told from zero"
Paired = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""{difference: {cell: {mean, low, high, n, tasks, p_value}}} of one metric."""


def told(found: Mapping[str, Any]) -> bool:
    """Whether a difference is told from zero: its interval leaves 0 out, and its p value is below LEVEL."""
    return bool((found["low"] > 0 or found["high"] < 0) and found["p_value"] < LEVEL)


def sense(name: str, found: Mapping[str, Any], metric: Metric) -> str | None:
    """What a difference says; None where it is not told from zero, or neither direction is better by itself."""
    if metric.lower_is_better is None or not told(found):
        return None
    worse = (found["mean"] > 0) == metric.lower_is_better
    if name.startswith("exemplar gap"):
        return "the exemplar is followed" if worse else "the exemplar misleads"
    return "worse" if worse else "better"


def verdicts(
    metrics: Metrics, paired: Paired, headline: Metric, by_metric: Mapping[str, Paired]
) -> list[tuple[str, list[str]]]:
    """(cell, sentences) for SUMMED_UP: ours, and the differences to the rivals with the metrics that say otherwise."""
    rows = []
    for cell in SUMMED_UP:
        ours = metrics.get(cell, {}).get(OURS, {}).get(headline.name)
        if ours is None:
            continue
        sentences = [f"{headline.name} {show(ours['mean'])} ({show(ours['low'])} to {show(ours['high'])})"]
        for name, found in paired.items():
            if cell in found:
                sentences.append(_sentence(name, found[cell], headline) + _but(name, cell, found, headline, by_metric))
        rows.append((cell, sentences))
    return rows


def comparisons(paired: Paired, by_metric: Mapping[str, Paired]) -> int:
    """How many p values there are."""
    return sum(len(cells) for found in (paired, *by_metric.values()) for cells in found.values())


def show(value: float) -> str:
    """A number with about four digits that matter."""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) >= 1 else f"{value:.4f}"


def _sentence(name: str, found: Mapping[str, Any], headline: Metric) -> str:
    interval = f"{name}: {found['mean']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"
    said = sense(name, found, headline)
    return f"{interval}, {said}" if said else interval if told(found) else f"{interval}, {UNTOLD}"


def _but(name: str, cell: str, paired: Mapping[str, Any], headline: Metric, by_metric: Mapping[str, Paired]) -> str:
    """The other metrics by which the difference says something else than by the headline."""
    main = sense(name, paired[cell], headline)
    others: dict[str, list[str]] = {}
    for metric, differences in by_metric.items():
        found = differences.get(name, {}).get(cell)
        said = found and sense(name, found, described(metric))
        if found and said and said != main:
            others.setdefault(said, []).append(f"{metric} ({found['mean']:+.4f})")
    return "".join(f"; but {said} by {', '.join(metrics)}" for said, metrics in sorted(others.items()))
