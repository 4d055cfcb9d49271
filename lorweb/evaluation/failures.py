"""Where our model loses: analogies that a rival answers better, worst first, and how many of each edit type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lorweb.evaluation.gate import MODEL as OURS
from lorweb.evaluation.glossary import Metric, worse_by
from lorweb.evaluation.results import Measured

RIVALS: Final = (
    "copy",
    "base",
    "base_prompt",
    "base_no_prompt",
    "single_lora",
    "single_lora_prompt",
    "single_lora_no_prompt",
    "single_lora_equal",
    "basis_constant",
    "official",
)
"""An answer that loses to one of these is a failure: to an unchanged b, or to another model with the same exemplar."""


@dataclass(frozen=True)
class Failure:
    """One analogy that at least one rival answers better."""

    measured: Measured
    value: float  # of OURS
    rivals: Mapping[str, float]  # of those that were evaluated
    lost_to: tuple[str, ...]
    excess: float  # how much worse than the best rival, in units of the metric; above 0


@dataclass(frozen=True)
class Losses:
    """One edit type: how many analogies, how many of them lost, and to whom."""

    edit_type: str
    analogies: int
    lost: int
    to: Mapping[str, int]  # rival -> analogies that it answers better


def judged(measured: Sequence[Measured]) -> list[Measured]:
    """Analogies on new subjects that our model answered."""
    return [m for m in measured if OURS in m.scores and not m.subject_seen]


def failures(measured: Sequence[Measured], metric: Metric) -> list[Failure]:
    """Failures by `excess`, worst first; equal ones by the analogy's id. An equal answer is none."""
    found = []
    for m in judged(measured):
        value = m.scores[OURS][metric.name]
        rivals = {name: m.scores[name][metric.name] for name in RIVALS if name in m.scores}
        lost = {name: worse_by(value, rival, metric) for name, rival in rivals.items()}
        lost = {name: by for name, by in lost.items() if by > 0}
        if lost:
            found.append(Failure(m, value, rivals, tuple(lost), max(lost.values())))
    return sorted(found, key=lambda failure: (-failure.excess, failure.measured.analogy))


def losses(measured: Sequence[Measured], found: Sequence[Failure]) -> list[Losses]:
    """Counts per edit type, by name, and of all together as the last row."""
    asked, rivals = judged(measured), [name for name in RIVALS if any(name in m.scores for m in measured)]

    def row(name: str, kinds: set[str]) -> Losses:
        mine = [failure for failure in found if failure.measured.edit_type in kinds]
        to = {rival: sum(rival in failure.lost_to for failure in mine) for rival in rivals}
        return Losses(name, sum(m.edit_type in kinds for m in asked), len(mine), to)

    kinds = sorted({m.edit_type for m in asked})
    return [row(kind, {kind}) for kind in kinds] + ([row("all", set(kinds))] if kinds else [])
