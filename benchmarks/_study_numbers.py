"""Means and paired differences over seeds and tasks, with intervals, and their tables.

The unit is the task, as in the evaluate stage: first the mean over the analogies of a task, then over tasks. The seeds
of training are crossed with the tasks (every seed answers all of them), so that a resample draws seeds and tasks, each
with replacement, and takes the mean over what it has drawn: wide rather than narrow, as what task and seed do together
counts in both. With one seed that is a resample of tasks, and the interval says nothing about other trainings; the same
is given for the trainings at hand, the mean over their seeds, as a second interval.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorweb.evaluation.aggregate import expanded_tail
from lorweb.evaluation.results import CELLS, Measured
from lorweb.records import stable_id

Scores = Mapping[str, NDArray[np.float64]]  # {cell: [seeds, tasks]}


@dataclass(frozen=True)
class Spread:
    """A mean with its 95 % intervals over tasks and trainings and over tasks alone, and the mean of each seed."""

    mean: float
    low: float
    high: float
    at_hand: tuple[float, float]  # over tasks alone: of these trainings, not of others
    seeds: tuple[float, ...]
    tasks: int


def scores(measured: Sequence[Sequence[Measured]], model: str, metric: str) -> Scores:
    """Means per task of one model in each main cell; one list of answers per seed, tasks in order.

    Raises:
        ValueError: two seeds did not answer the same analogies.
    """
    asked = [sorted(m.analogy for m in found) for found in measured]
    if any(other != asked[0] for other in asked):
        raise ValueError("trainings of different seeds answered different analogies; measure them on one data set")
    rows = [_of_tasks(found, model, metric) for found in measured]
    return {
        cell: np.array([[row[cell][task] for task in sorted(rows[0][cell])] for row in rows])
        for cell in CELLS
        if rows[0].get(cell)
    }


def _of_tasks(found: Sequence[Measured], model: str, metric: str) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for m in sorted(found, key=lambda m: m.analogy):
        for cell in m.cells:
            values[cell][m.task].append(m.scores[model][metric])
    return {cell: {task: math.fsum(v) / len(v) for task, v in tasks.items()} for cell, tasks in values.items()}


def spread(values_ST: NDArray[np.float64], bootstrap: int, name: str) -> Spread:
    """The mean over seeds and tasks; `name` seeds the resamples, so that equal names share them.

    Percentiles are expanded for the number of tasks, as in `lorweb.evaluation.aggregate.interval`.
    """
    mean = float(values_ST.mean())
    low, high = _interval(values_ST, bootstrap, name)
    at_hand = _interval(values_ST.mean(0, keepdims=True), bootstrap, name)
    return Spread(mean, low, high, at_hand, tuple(float(v) for v in values_ST.mean(1)), values_ST.shape[1])


def _interval(values_ST: NDArray[np.float64], bootstrap: int, name: str) -> tuple[float, float]:
    seeds, tasks = values_ST.shape
    if tasks < 2:
        return float(values_ST.mean()), float(values_ST.mean())
    generator = np.random.default_rng(int(stable_id("study", name), 16))
    tail = expanded_tail(tasks)
    rows, columns = (generator.integers(0, n, size=(bootstrap, n)) for n in (seeds, tasks))
    means = values_ST[rows[:, :, None], columns[:, None, :]].mean((1, 2))
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Arm:
    """One model as one setting trained it."""

    setting: str
    model: str
    asked: tuple[str, ...]  # analogies
    scores: Scores


def arm_of(setting: str, model: str, measured: Sequence[Sequence[Measured]], metric: str) -> Arm:
    """Of the answers of each seed. Raises ValueError as `scores`."""
    asked = tuple(sorted(m.analogy for m in measured[0]))
    return Arm(setting, model, asked, scores(measured, model, metric))


def means(arm: Arm, bootstrap: int) -> dict[str, Any]:
    """A row of the result: an arm by itself."""
    return _row(arm, None, arm.scores, bootstrap)


def difference(arm: Arm, rival: Arm, bootstrap: int) -> dict[str, Any]:
    """A row of the result: an arm minus a rival, task by task and seed by seed.

    A rival that was not trained, or was with one seed, stands against every seed of the arm.

    Raises:
        ValueError: they did not answer the same analogies, or their seeds do not pair.
    """
    counts = [len(next(iter(one.scores.values()))) for one in (arm, rival)]
    if arm.asked != rival.asked or counts[1] not in (1, counts[0]):
        raise ValueError(
            f"{arm.setting} {arm.model} answered {len(arm.asked)} analogies with {counts[0]} seeds, {rival.setting} "
            f"{rival.model} {len(rival.asked)} with {counts[1]}; measure both on the same analogies with the same seeds"
        )
    return _row(arm, rival, {cell: arm.scores[cell] - rival.scores[cell] for cell in arm.scores}, bootstrap)


def _row(arm: Arm, rival: Arm | None, values: Scores, bootstrap: int) -> dict[str, Any]:
    cells = {cell: asdict(spread(found, bootstrap, cell)) for cell, found in values.items()}
    against = f"{rival.setting} {rival.model}".strip() if rival else None
    return {"setting": arm.setting, "model": arm.model, "minus": against, "cells": cells}


SHOWN: Final = {
    "seen": "trained tasks",
    "unseen": "held out: all",
    "unseen_value": "values",
    "unseen_composition": "compositions",
    "unseen_edit": "whole edits",
}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one metric as a Markdown table: a mean and its interval per cell, and more of all held-out tasks."""
    cells = [cell for cell in SHOWN if any(cell in row["cells"] for row in rows)]
    head = [
        "setting",
        "model",
        *(SHOWN[cell] for cell in cells),
        "held out, these trainings alone",
        "held out, each seed",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        sign = "+" if row["minus"] else ""
        shown = [_cell(row["cells"].get(cell), sign) for cell in cells]
        last = row["cells"].get("unseen") or next(iter(row["cells"].values()))
        seeds = ", ".join(f"{value:{sign}.4f}" for value in last["seeds"])
        alone = " to ".join(f"{value:{sign}.3f}" for value in last["at_hand"])
        name = f"{row['model']} minus {row['minus']}" if row["minus"] else row["model"]
        lines.append("| " + " | ".join([row["setting"], name, *shown, alone, seeds]) + " |")
    return "\n".join(lines)


def _cell(found: Mapping[str, Any] | None, sign: str) -> str:
    if found is None:
        return ""
    return f"{found['mean']:{sign}.4f} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"
