"""From measured analogies to what is reported: cells, the metrics file, differences, the table per task."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Final, Self

from lorweb.evaluation.aggregate import Comparison, Difference, Row, Summary, aggregate, paired
from lorweb.evaluation.gate import Evidence

HEADLINE: Final = "mse_to_truth"
"""What models are ranked and promoted by where the truth is known and aligned to the pixel. The perceptual distance is
reported beside it: at 64 px it weighs the grain that a small base paints with as much as the edit."""
CELLS: Final[dict[str, str]] = {
    "seen": "trained tasks, new subjects",
    "unseen": "all held-out tasks, new subjects",
    "unseen_value": "held-out parameter values of trained edits",
    "unseen_composition": "held-out compositions of trained edits",
    "unseen_edit": "edits that were never trained",
}
"""The main cells, in the order in which they are shown."""
DIFFERENCES: Final[dict[str, tuple[str, str]]] = {
    "lorweb minus single_lora": ("lorweb", "single_lora"),
    "lorweb minus single_lora_equal": ("lorweb", "single_lora_equal"),
    "lorweb minus basis_constant": ("lorweb", "basis_constant"),
    "lorweb minus official": ("lorweb", "official"),
    "lorweb minus base": ("lorweb", "base"),
    "lorweb minus base_prompt": ("lorweb", "base_prompt"),
    "lorweb minus base_no_prompt": ("lorweb", "base_no_prompt"),
    "lorweb minus copy": ("lorweb", "copy"),
    "lorweb minus lorweb_prompt": ("lorweb", "lorweb_prompt"),
    "lorweb minus lorweb_no_prompt": ("lorweb", "lorweb_no_prompt"),
    "lorweb_prompt minus single_lora_prompt": ("lorweb_prompt", "single_lora_prompt"),
    "lorweb_no_prompt minus single_lora_no_prompt": ("lorweb_no_prompt", "single_lora_no_prompt"),
    "lorweb minus lorweb_identity (a' = a)": ("lorweb", "lorweb_identity"),
    "exemplar gap of lorweb (shuffled minus true)": ("lorweb_shuffled", "lorweb"),
    **{
        f"exemplar gap of {name} (shuffled minus true)": (f"{name}_shuffled", name)
        for name in ("single_lora", "single_lora_equal", "basis_constant", "official")
    },
}


@dataclass(frozen=True)
class Measured:
    """One analogy with the metrics of every model: `scores` are means over `draws`, its answers from several noises."""

    analogy: str
    task: str
    edit_type: str
    holdout: str  # "none", "value", "composition", "edit"
    subject_seen: bool
    category: str  # of b: "photo" or "avatar:<style>"
    scores: Mapping[str, Mapping[str, float]]  # {model: {metric: value}}
    draws: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)  # {model: one for each noise}

    @classmethod
    def of(cls, analogy: Mapping[str, Any], category: str, draws: Mapping[str, Sequence[Mapping[str, float]]]) -> Self:
        """From a row of `ANALOGY`, the category of its b, and each model's metrics from each noise."""
        facts = {name: analogy[name] for name in ("task", "edit_type", "holdout", "subject_seen")}
        means = {model: mean_draw(own) for model, own in draws.items()}
        return cls(analogy=analogy["id"], category=category, scores=means, draws=draws, **facts)

    @property
    def cells(self) -> list[str]:
        """The cells an analogy counts in: held-out tasks in `unseen` and in their kind; photos and avatars apart too.

        Cells are about new subjects; analogies on trained subjects get cells of their own, with a prefix.
        """
        names = ["seen"] if self.holdout == "none" else ["unseen", f"unseen_{self.holdout}"]
        prefix = "known_subject_" if self.subject_seen else ""
        kind = self.category.partition(":")[0]
        return [prefix + name for name in (*names, f"{names[0]}_{kind}")]


def mean_draw(draws: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each metric's mean over the noises of one analogy; of a single noise, its own number."""
    return {name: math.fsum(draw[name] for draw in draws) / len(draws) for name in draws[0]}


def rows_of(measured: Iterable[Measured]) -> list[Row]:
    """One row per cell, model and analogy, in the order of the analogies' ids."""
    ordered = sorted(measured, key=lambda m: m.analogy)
    return [
        Row(m.task, cell, model, dict(values))
        for m in ordered
        for cell in m.cells
        for model, values in m.scores.items()
    ]


def summarise(rows: Sequence[Row], bootstrap: int, seed: int) -> dict[str, dict[str, dict[str, Summary]]]:
    """{cell: {model: {metric: {mean, low, high, n}}}}, main cells first."""
    cells = aggregate(rows, bootstrap, seed)
    return {cell: cells[cell] for cell in (*(c for c in CELLS if c in cells), *(c for c in cells if c not in CELLS))}


def add_seed_std(summaries: Mapping[str, Mapping[str, Mapping[str, Summary]]], measured: Sequence[Measured]) -> None:
    """Write `seed_std` into the summaries of models that answered from several noises.

    Each noise by itself gives a mean over tasks of the mean per task; these are what it is the standard deviation of.
    """
    means: dict[tuple[str, str, str], dict[int, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for m in measured:
        for model, draws in m.draws.items():
            for number, draw in enumerate(draws if len(draws) > 1 else ()):
                for metric, value in draw.items():
                    for cell in m.cells:
                        means[cell, model, metric][number][m.task].append(value)
    for (cell, model, metric), by_noise in means.items():
        of_noise = [fmean(map(fmean, by_task.values())) for by_task in by_noise.values()]
        summaries[cell][model][metric]["seed_std"] = stdev(of_noise)


def differences(rows: Sequence[Row], metric: str, bootstrap: int, seed: int) -> dict[str, dict[str, Difference]]:
    """{difference: {cell: summary}} for the rows of DIFFERENCES whose two models were evaluated."""
    cells: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        cells[row.cell].add(row.model)
    return {
        name: {
            cell: paired(rows, Comparison(x, y, metric, cell), bootstrap, seed)
            for cell, models in sorted(cells.items())
            if {x, y} <= models
        }
        for name, (x, y) in DIFFERENCES.items()
        if any({x, y} <= models for models in cells.values())
    }


def other_differences(rows: Sequence[Row], bootstrap: int, seed: int) -> dict[str, dict[str, dict[str, Difference]]]:
    """{metric: {difference: {main cell: summary}}} of every metric but the headline."""
    kept = [row for row in rows if row.cell in CELLS]
    names = sorted({name for row in kept for name in row.metrics} - {HEADLINE})
    return {name: differences(kept, name, bootstrap, seed) for name in names}


def per_task(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """One row per task, new subjects only: facts, all metrics of `lorweb`, and the headline of every other model."""
    tasks: dict[str, list[Measured]] = defaultdict(list)
    for m in measured:
        if not m.subject_seen:
            tasks[m.task].append(m)
    table = []
    for task, found in sorted(tasks.items()):
        row: dict[str, Any] = {
            "task": task,
            "edit_type": found[0].edit_type,
            "holdout": found[0].holdout,
            "n": len(found),
        }
        for model in found[0].scores:
            for metric in found[0].scores[model] if model == "lorweb" else (HEADLINE,):
                mean = math.fsum(m.scores[model][metric] for m in found) / len(found)
                row[metric if model == "lorweb" else f"{metric}.{model}"] = float(f"{mean:.6g}")
        table.append(row)
    return table


def evidence(metrics: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> Evidence:
    """What the gate needs, from `reports/metrics.json` and the rows of `reports/per_task.csv`."""
    tasks = {str(row["task"]): {name: float(value) for name, value in row.items() if _is_metric(name)} for row in table}
    return Evidence({cell: dict(models) for cell, models in metrics.items()}, tasks)


def _is_metric(column: str) -> bool:
    return column not in ("task", "edit_type", "holdout", "n") and "." not in column
