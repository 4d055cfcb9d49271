"""May a candidate replace the champion? A pure function of measurements; answers are sentences with numbers."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from lorweb.evaluation.aggregate import resampled
from lorweb.evaluation.gate_entries import Gate, Healthy

MODEL: Final = "lorweb"
SHUFFLED: Final = "lorweb_shuffled"  # the same model, shown the exemplar of another task
COPY: Final = "copy"  # b itself
FIRST_RIVAL: Final = "base"  # what a first promotion is measured against

Metrics = dict[str, dict[str, dict[str, dict[str, Any]]]]  # {cell: {model: {metric: {mean, low, high, n}}}}
TaskScores = dict[str, dict[str, float]]  # {task: {metric: mean of MODEL}}
Intervals = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""{cell: {rival: {mean, low, high, n}}} of rival minus candidate on the same analogies; rivals: CHAMPION, models."""
CHAMPION: Final = "champion"


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at: the numbers of `reports/metrics.json`, and MODEL's mean per task."""

    cells: Metrics
    tasks: TaskScores = field(default_factory=dict)


@dataclass(frozen=True)
class Further:
    """What only some gates ask for."""

    intervals: Intervals = field(default_factory=dict)  # margin_at: low
    health: Mapping[str, float] = field(default_factory=dict)  # health: entropy, ..., dead_atoms as a share
    no_health: str = ""  # why it could not be measured


@dataclass(frozen=True)
class Check:
    """One thing that the gate asked for; `value` and `needed` are None where nothing could be measured."""

    name: str
    cell: str  # "" where it is about all of them
    passed: bool
    sentence: str
    value: float | None = None
    needed: float | None = None


@dataclass(frozen=True)
class Decision:
    """`reasons`: every failed check if refused, every check that was made if promoted; never empty."""

    promoted: bool
    reasons: list[str]
    checks: list[Check] = field(default_factory=list)

    def listed(self) -> list[dict[str, Any]]:
        """The checks as JSON takes them."""
        return [asdict(check) for check in self.checks]


def decide(candidate: Evidence, champion: Evidence | None, gate: Gate, further: Further | None = None) -> Decision:
    """Compare a candidate with the champion, or with the base model if there is none yet.

    Both must have been measured on the same evaluation set with the same settings; the caller sees to that. The gate's
    metric is a distance: lower is better. In every cell of the gate the candidate must be strictly better than its
    rival and by `min_margin`, follow the exemplar (`min_exemplar_gap`) and beat an unchanged b (`min_gain_over_copy`):
    each on the mean, or with `margin_at: low` at the low end of the 95 % interval of the paired difference. Of the
    tasks, a share of at most `max_regressed_tasks` may get worse than the champion by more than `max_task_regression`.
    The basis must be as healthy as `health` asks. A missing or non-finite number refuses.
    """
    more = further or Further()
    checks = [check for cell in gate.cells for check in _cell((candidate, champion), gate, cell, more.intervals)]
    if champion is not None:
        checks.append(_tasks(candidate, champion, gate))
    if gate.health is not None:
        checks += _health(gate.health, more)
    failed = [check.sentence for check in checks if not check.passed]
    return Decision(not failed, failed or [check.sentence for check in checks], checks)


def _cell(compared: tuple[Evidence, Evidence | None], gate: Gate, cell: str, intervals: Intervals) -> list[Check]:
    candidate, champion = compared
    rival_model, rival_name = (MODEL, "champion") if champion else (FIRST_RIVAL, "base model")
    values = {
        "candidate": _mean(candidate, cell, MODEL, gate.metric),
        rival_name: _mean(champion or candidate, cell, rival_model, gate.metric),
        "shuffled exemplar": _mean(candidate, cell, SHUFFLED, gate.metric),
        "unchanged b": _mean(candidate, cell, COPY, gate.metric),
    }
    missing = [name for name, value in values.items() if value is None]
    if missing:
        fault = f"{cell}: no finite {gate.metric} was measured for {', '.join(missing)}; evaluate that cell and model"
        return [Check("measured", cell, False, fault)]
    mine, rival, shuffled, copy = (float(value) for value in values.values() if value is not None)
    found = [
        _better(
            f"{cell}: {gate.metric} of the candidate is {mine:.4f}, of the {rival_name} {rival:.4f}",
            (cell, rival - mine, gate.min_margin),
        ),
        _reached(
            f"{cell}: with another task's exemplar {gate.metric} is {shuffled:.4f} instead of {mine:.4f}",
            "exemplar gap",
            (cell, shuffled - mine, gate.min_exemplar_gap),
        ),
        _reached(
            f"{cell}: an unchanged b is at {copy:.4f}, the candidate at {mine:.4f}",
            "gain over copying b",
            (cell, copy - mine, gate.min_gain_over_copy),
        ),
    ]
    if gate.margin_at == "low":
        rivals = (CHAMPION if champion else FIRST_RIVAL, SHUFFLED, COPY)
        found += [
            _certain(check, intervals.get(cell, {}).get(rival)) for check, rival in zip(found, rivals, strict=True)
        ]
    return found


def _better(facts: str, measured: tuple[str, float, float]) -> Check:
    cell, gain, margin = measured
    passed = gain > 0 and gain >= margin
    sentence = (
        f"{facts}: {'better' if gain > 0 else 'not better'} by {gain:+.4f}, needed: above 0, at least {margin:.4f}"
    )
    return Check("margin", cell, passed, sentence, gain, margin)


def _reached(facts: str, name: str, measured: tuple[str, float, float]) -> Check:
    cell, value, bound = measured
    passed = value > 0 and value >= bound
    sentence = f"{facts}: {name} {value:+.4f} {'reaches' if passed else 'falls short of'} the needed {bound:.4f}"
    return Check(name, cell, passed, sentence, value, bound)


def _certain(check: Check, interval: Mapping[str, Any] | None) -> Check:
    """The same check at the low end of the interval."""
    name, needed = f"{check.name}, low end", check.needed or 0.0
    if interval is None or not math.isfinite(interval["low"]):
        fault = f"{check.cell}: no interval of the {check.name} was measured, which margin_at: low asks for"
        return Check(name, check.cell, False, f"{fault}; evaluate both models on the same analogies", None, needed)
    if resampled(interval) < 2:
        fault = f"{check.cell}: the {check.name} was measured on one analogy, which has no interval"
        return Check(name, check.cell, False, f"{fault}; margin_at: low needs two or more", None, needed)
    low, high = float(interval["low"]), float(interval["high"])
    passed = low > 0 and low >= needed
    sentence = (
        f"{check.cell}: the 95 % interval of the {check.name} is {low:+.4f} to {high:+.4f} over {interval['n']} "
        f"analogies; its low end {'reaches' if passed else 'falls short of'} the needed {needed:.4f}"
    )
    return Check(name, check.cell, passed, sentence, low, needed)


def _tasks(candidate: Evidence, champion: Evidence, gate: Gate) -> Check:
    losses = {
        task: candidate.tasks[task][gate.metric] - champion.tasks[task][gate.metric]
        for task in sorted(candidate.tasks.keys() & champion.tasks.keys())
        if gate.metric in candidate.tasks[task] and gate.metric in champion.tasks[task]
    }
    if not losses:
        fault = (
            f"no task has {gate.metric} from both candidate and champion, so no regression can be seen; evaluate both"
        )
        return Check("tasks", "", False, fault)
    worst = max(losses, key=lambda task: losses[task])
    above = [task for task, loss in losses.items() if not loss <= gate.max_task_regression]
    share = len(above) / len(losses)
    sentence = (
        f"worst of {len(losses)} tasks against the champion is {worst}: {gate.metric} {losses[worst]:+.4f}, "
        f"{'above' if above else 'within'} the allowed {gate.max_task_regression:+.4f}; "
        f"{len(above)} of {len(losses)} tasks ({share:.1%}) are above it, allowed are {gate.max_regressed_tasks:.1%}"
    )
    return Check("tasks", "", share <= gate.max_regressed_tasks, sentence, share, gate.max_regressed_tasks)


def _health(bounds: Healthy, more: Further) -> list[Check]:
    """One check for each bound."""
    if more.no_health or not more.health:
        why = more.no_health or "nothing was measured"
        return [Check("health", "", False, f"the health of the basis is not known, which gate.health asks for: {why}")]
    found = []
    for key, bound in bounds.model_dump().items():
        side, name = key.split("_", 1)
        value = more.health[name]
        passed = value >= bound if side == "min" else value <= bound
        sentence = f"health: {name} is {value:.3g}, needed at {'least' if side == 'min' else 'most'} {bound:g}"
        found.append(Check(name, "", passed, sentence, value, bound))
    return found


def _mean(evidence: Evidence, cell: str, model: str, metric: str) -> float | None:
    value = evidence.cells.get(cell, {}).get(model, {}).get(metric, {}).get("mean")
    return float(value) if value is not None and math.isfinite(value) else None
