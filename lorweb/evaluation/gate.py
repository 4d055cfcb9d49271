"""May a candidate replace the champion? A pure function of measurements; answers are sentences with numbers."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from lorweb.config import Gate

MODEL: Final = "lorweb"
SHUFFLED: Final = "lorweb_shuffled"  # the same model, shown the exemplar of another task
COPY: Final = "copy"  # b itself
FIRST_RIVAL: Final = "base"  # what a first promotion is measured against

Metrics = dict[str, dict[str, dict[str, dict[str, Any]]]]  # {cell: {model: {metric: {mean, low, high, n}}}}
TaskScores = dict[str, dict[str, float]]  # {task: {metric: mean of MODEL}}


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at: the numbers of `reports/metrics.json`, and MODEL's mean per task."""

    cells: Metrics
    tasks: TaskScores = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """`reasons`: every failed check if refused, every check that was made if promoted; never empty."""

    promoted: bool
    reasons: list[str]


@dataclass(frozen=True)
class _Check:
    passed: bool
    sentence: str


def decide(candidate: Evidence, champion: Evidence | None, gate: Gate) -> Decision:
    """Compare a candidate with the champion, or with the base model if there is none yet.

    Both must have been measured on the same evaluation set with the same settings; the caller sees to that. The gate's
    metric is a distance: lower is better. In every cell of the gate the candidate must be strictly better than its
    rival and by `min_margin`, follow the exemplar (`min_exemplar_gap`) and beat an unchanged b (`min_gain_over_copy`);
    no task may get worse than the champion by more than `max_task_regression`. A missing or non-finite number refuses.
    """
    checks = [check for cell in gate.cells for check in _cell(candidate, champion, gate, cell)]
    if champion is not None:
        checks.append(_tasks(candidate, champion, gate))
    failed = [check.sentence for check in checks if not check.passed]
    return Decision(not failed, failed or [check.sentence for check in checks])


def _cell(candidate: Evidence, champion: Evidence | None, gate: Gate, cell: str) -> list[_Check]:
    rival_model, rival_name = (MODEL, "champion") if champion else (FIRST_RIVAL, "base model")
    values = {
        "candidate": _mean(candidate, cell, MODEL, gate.metric),
        rival_name: _mean(champion or candidate, cell, rival_model, gate.metric),
        "shuffled exemplar": _mean(candidate, cell, SHUFFLED, gate.metric),
        "unchanged b": _mean(candidate, cell, COPY, gate.metric),
    }
    missing = [name for name, value in values.items() if value is None]
    if missing:
        return [
            _Check(
                False,
                f"{cell}: no finite {gate.metric} was measured for {', '.join(missing)}; evaluate that cell and model",
            )
        ]
    mine, rival, shuffled, copy = (float(value) for value in values.values() if value is not None)
    return [
        _better(
            f"{cell}: {gate.metric} of the candidate is {mine:.4f}, of the {rival_name} {rival:.4f}",
            rival - mine,
            gate.min_margin,
        ),
        _reached(
            f"{cell}: with another task's exemplar {gate.metric} is {shuffled:.4f} instead of {mine:.4f}",
            "exemplar gap",
            shuffled - mine,
            gate.min_exemplar_gap,
        ),
        _reached(
            f"{cell}: an unchanged b is at {copy:.4f}, the candidate at {mine:.4f}",
            "gain over copying b",
            copy - mine,
            gate.min_gain_over_copy,
        ),
    ]


def _better(facts: str, gain: float, margin: float) -> _Check:
    passed = gain > 0 and gain >= margin
    return _Check(
        passed,
        f"{facts}: {'better' if gain > 0 else 'not better'} by {gain:+.4f}, needed: above 0, at least {margin:.4f}",
    )


def _reached(facts: str, name: str, value: float, bound: float) -> _Check:
    passed = value > 0 and value >= bound
    return _Check(
        passed, f"{facts}: {name} {value:+.4f} {'reaches' if passed else 'falls short of'} the needed {bound:.4f}"
    )


def _tasks(candidate: Evidence, champion: Evidence, gate: Gate) -> _Check:
    losses = {
        task: candidate.tasks[task][gate.metric] - champion.tasks[task][gate.metric]
        for task in sorted(candidate.tasks.keys() & champion.tasks.keys())
        if gate.metric in candidate.tasks[task] and gate.metric in champion.tasks[task]
    }
    if not losses:
        return _Check(
            False,
            f"no task has {gate.metric} from both candidate and champion, so no regression can be seen; evaluate both",
        )
    worst = max(losses, key=lambda task: losses[task])
    passed = losses[worst] <= gate.max_task_regression
    return _Check(
        passed,
        f"worst of {len(losses)} tasks against the champion is {worst}: {gate.metric} {losses[worst]:+.4f}, "
        f"{'within' if passed else 'above'} the allowed {gate.max_task_regression:+.4f}",
    )


def _mean(evidence: Evidence, cell: str, model: str, metric: str) -> float | None:
    value = evidence.cells.get(cell, {}).get(model, {}).get(metric, {}).get("mean")
    return float(value) if value is not None and math.isfinite(value) else None
