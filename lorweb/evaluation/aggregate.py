"""Means over tasks with 95 % intervals: first the mean of each task, then the mean over tasks.

The task is the unit of resampling: answers to one task share its difficulty, so that resampling answers would claim a
certainty about new tasks that few tasks cannot give.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from lorweb.evaluation.significance import sign_flip_p
from lorweb.records import stable_id

CONFIDENCE: Final = 0.95
LEAST: Final = 5  # values that are resampled
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """The metrics of one model's answer to one analogy. A row that counts in two cells is given twice."""

    task: str
    cell: str
    model: str
    metrics: dict[str, float]


class Summary(TypedDict):
    """A mean with its 95 % interval (see `resampled` for what it rests on); `n` analogies in `tasks` tasks."""

    mean: float
    low: float
    high: float
    n: int
    tasks: int
    seed_std: NotRequired[float]  # of the means that single noises give, where there are several


class Difference(Summary):
    """A mean paired difference; `p_value` of a two-sided sign-flip test over tasks."""

    p_value: float


def aggregate(rows: Iterable[Row], bootstrap: int, seed: int) -> dict[str, dict[str, dict[str, Summary]]]:
    """{cell: {model: {metric: Summary}}}, keys sorted, independent of the order of `rows`.

    `bootstrap` is the number of resamples of tasks; all models of a cell share them, so that their intervals compare.
    With a single task its analogies are resampled instead, and the interval speaks of that task alone.

    Raises:
        ValueError: rows of one model and cell differ in their metrics, or a value is not finite.
    """
    groups: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.cell][row.model].append(row)
    return {
        cell: {model: _summaries(found, bootstrap, seed) for model, found in sorted(models.items())}
        for cell, models in sorted(groups.items())
    }


@dataclass(frozen=True)
class Comparison:
    """Two models on one metric in one cell."""

    model_x: str
    model_y: str
    metric: str
    cell: str


def paired(rows: Iterable[Row], compared: Comparison, bootstrap: int, seed: int) -> Difference:
    """Mean over tasks of (metric of x - metric of y) on the same analogies, its interval, and how likely chance is.

    Within a task the rows of both models must list its analogies in the same order. `bootstrap` is the number of
    resamples, and of sign flips.

    Raises:
        ValueError: a model has no rows in the cell, the two did not answer the same number of analogies of each task,
            or a value is missing or not finite.
    """
    kept = [row for row in rows if row.cell == compared.cell]
    x, y = ([row for row in kept if row.model == model] for model in (compared.model_x, compared.model_y))
    values_x, values_y = _by_task(x, compared.metric), _by_task(y, compared.metric)
    counts_x, counts_y = ({task: len(v) for task, v in values.items()} for values in (values_x, values_y))
    if not counts_x or counts_x != counts_y:
        odd = sorted(task for task in counts_x | counts_y if counts_x.get(task) != counts_y.get(task))
        raise ValueError(
            f"cannot pair {compared.model_x} and {compared.model_y} in cell '{compared.cell}': they have {len(x)} and "
            f"{len(y)} answers, tasks that differ: {odd[:5]}; evaluate both on the same analogies"
        )
    differences = {task: values_x[task] - values_y[task] for task in values_x}
    summary = _summary(differences, bootstrap, _generator(seed, compared.cell))
    p_value = sign_flip_p(_units(differences), bootstrap, _generator(seed, compared.cell, "signs"))
    return Difference(**summary, p_value=p_value)


def resampled(summary: Mapping[str, Any]) -> int:
    """How many independent values an interval rests on: tasks, or the analogies of a lone task.

    Of one there is no interval: `low` and `high` repeat the mean then, and say nothing of what is certain.
    """
    tasks = int(summary.get("tasks", summary["n"]))
    return tasks if tasks > 1 else int(summary["n"])


def expanded_tail(n: int) -> float:
    """Share of the resampled means of n >= 2 values below a 95 % interval, and as much above.

    Plain percentiles are too narrow by sqrt((n - 1) / n) and by ignoring that the spread is estimated: with ten tasks
    they cover 90 % instead of 95. Expanding the two percentiles as a t interval would be expanded corrects both.
    """
    from scipy.stats import norm, t  # type: ignore[import-untyped]

    return float(norm.cdf(math.sqrt(n / (n - 1)) * t.ppf((1.0 - CONFIDENCE) / 2.0, n - 1)))


def interval(values: Values, bootstrap: int, generator: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of independent values, by expanded percentiles (see `expanded_tail`).

    Means of fewer than LEAST values take too few forms to be resampled: their interval is Student's. A single value
    has none, and is given for both ends: see `resampled`.
    """
    if len(values) < 2:
        return float(values[0]), float(values[0])
    if len(values) < LEAST:
        return student(values)
    n, tail = len(values), expanded_tail(len(values))
    means = values[generator.integers(0, n, size=(bootstrap, n))].mean(axis=1)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def student(values: Values) -> tuple[float, float]:
    """95 % interval of the mean of two or more independent values by Student's t."""
    from scipy.stats import t

    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(t.ppf((1.0 + CONFIDENCE) / 2.0, len(values) - 1)) * error
    return mean - half, mean + half


def _summaries(rows: Sequence[Row], bootstrap: int, seed: int) -> dict[str, Summary]:
    first = rows[0]
    for row in rows:
        if row.metrics.keys() != first.metrics.keys():
            odd = sorted(row.metrics.keys() ^ first.metrics.keys())
            raise ValueError(
                f"answers of {first.model} in cell '{first.cell}' differ in their metrics: {odd} are not in all of "
                "them; measure every answer alike"
            )
    return {
        metric: _summary(_by_task(rows, metric), bootstrap, _generator(seed, first.cell))
        for metric in sorted(first.metrics)
    }


def _by_task(rows: Sequence[Row], metric: str) -> dict[str, Values]:
    """Values of one metric per task, tasks sorted, in the order of the rows within a task."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        value = row.metrics.get(metric, math.nan)
        if not math.isfinite(value):
            raise ValueError(
                f"{metric} of {row.model} in cell '{row.cell}', task '{row.task}', is {row.metrics.get(metric)}; every "
                "answer needs a finite value, leave out answers that failed"
            )
        found[row.task].append(value)
    return {task: np.asarray(found[task]) for task in sorted(found)}


def _summary(by_task: dict[str, Values], bootstrap: int, generator: np.random.Generator) -> Summary:
    n = sum(len(values) for values in by_task.values())
    means = _means(by_task)
    low, high = interval(_units(by_task), bootstrap, generator)
    return Summary(mean=math.fsum(means) / len(means), low=low, high=high, n=n, tasks=len(means))


def _means(by_task: dict[str, Values]) -> Values:
    """The mean of each task; by fsum, which is exact and therefore the same in any order."""
    return np.asarray([math.fsum(values) / len(values) for values in by_task.values()])


def _units(by_task: dict[str, Values]) -> Values:
    """What is resampled: the means of tasks, or the answers to a lone task."""
    return _means(by_task) if len(by_task) > 1 else np.sort(next(iter(by_task.values())))


def _generator(seed: int, cell: str, use: str = "bootstrap") -> np.random.Generator:
    return np.random.default_rng(int(stable_id(use, seed, cell), 16))
