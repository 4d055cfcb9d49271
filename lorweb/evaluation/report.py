"""One self-contained HTML file: numbers with intervals, pictures, charts. It loads nothing from anywhere."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorweb.charts import TaskBar, line_chart, page_style, task_bars
from lorweb.evaluation.gate import Metrics
from lorweb.evaluation.pictures import LABELS, PictureRow, data_uri, heat_image, png_bytes
from lorweb.evaluation.results import CELLS

HEAT_CELL: Final = 12  # px
MAX_HEAT_TASKS: Final = 60


@dataclass(frozen=True)
class Metric:
    """How a metric is to be read."""

    name: str
    meaning: str
    lower_is_better: bool | None  # None: neither direction is better by itself


@dataclass(frozen=True)
class Heat:
    """Mean coefficients of test analogies: layers x atoms, and tasks x atoms (over all layers)."""

    layers_LN: NDArray[np.float64]
    tasks_TN: NDArray[np.float64]
    tasks: Sequence[str]


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows; what is empty is left out of it."""

    headline: str  # name of the metric that bars, captions and gate use
    metrics: Metrics
    paired: Mapping[str, Mapping[str, Mapping[str, Any]]]  # {difference: {cell: {mean, low, high, n}}} of the headline
    glossary: Sequence[Metric]
    tasks: Sequence[Mapping[str, Any]]  # rows of reports/per_task.csv
    pictures: Mapping[str, Sequence[PictureRow]]  # by cell, plus "best" and "worst"
    heat: Heat | None = None
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # metrics/<stage>.json
    facts: Mapping[str, str] = field(default_factory=dict)  # base, encoder, settings, hashes


def render(data: ReportData) -> str:
    """The page as text; the same data gives the same text."""
    page: str = _template().render(
        style=page_style(),
        data=data,
        cells=[(cell, CELLS.get(cell, cell.replace("_", ": ", 1))) for cell in data.metrics],
        models=_models(data.metrics),
        labels=LABELS,
        metric_names=[metric.name for metric in data.glossary],
        bars=[(title, svg) for title, svg in _bars(data) if svg],
        heat=_heat(data.heat) if data.heat is not None else None,
        curves=[(name, svg) for name, series in data.curves.items() if (svg := line_chart(series, name))],
        funnel=_funnel(data.stages),
        uri=data_uri,
    )
    return page


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".html.tmp")
    partial.write_text(render(data), encoding="utf-8")
    partial.replace(path)


def read_curve(path: Path, x: str = "step") -> dict[str, list[tuple[float, float]]]:
    """A CSV with a column `x` and numbers beside it -> {column: points}; cells that are no numbers are left out.

    A column of text (such as the variant that a row belongs to) splits the others into one series per value.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        numbers = {name: _number(value) for name, value in row.items()}
        words = [str(row[name]) for name, value in numbers.items() if value is None and row[name]]
        at = numbers.get(x)
        for name, value in numbers.items():
            if name != x and value is not None and at is not None:
                series.setdefault(" ".join([*words, name]), []).append((at, value))
    return series


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _models(metrics: Metrics) -> list[str]:
    found = {model for cell in metrics.values() for model in cell}
    return [model for model in LABELS if model in found] + sorted(found - set(LABELS))


def _bars(data: ReportData) -> list[tuple[str, str]]:
    """One chart for trained tasks, one for each kind of held-out tasks."""
    marks = [name for name in ("single_lora", "copy") if any(f"{data.headline}.{name}" in row for row in data.tasks)]
    charts = []
    for holdout in ("none", "value", "composition", "edit"):
        rows = [row for row in data.tasks if row["holdout"] == holdout and data.headline in row]
        bars = [
            TaskBar(str(row["task"]), float(row[data.headline]), {m: float(row[f"{data.headline}.{m}"]) for m in marks})
            for row in rows
        ]
        title = "trained tasks" if holdout == "none" else f"held out: {holdout}"
        charts.append((f"{title} ({len(bars)})", task_bars(bars, f"{data.headline} per task, {title}")))
    return charts


def _heat(heat: Heat) -> dict[str, Any]:
    layers, low, high = heat_image(heat.layers_LN, HEAT_CELL)
    tasks, task_low, task_high = heat_image(heat.tasks_TN[:MAX_HEAT_TASKS], HEAT_CELL)
    return {
        "layers": data_uri(png_bytes(layers)),
        "tasks": data_uri(png_bytes(tasks)),
        "shape": heat.layers_LN.shape,
        "range": (low, high),
        "task_range": (task_low, task_high),
        "task_names": list(heat.tasks[:MAX_HEAT_TASKS]),
        "left_out": max(0, len(heat.tasks) - MAX_HEAT_TASKS),
    }


def _funnel(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the data stages in pipeline order; stages without counts are left out."""
    order = ("collect", "generate", "filter", "assemble", "encode")
    return [
        {
            "stage": stage,
            "rows_in": stages[stage]["rows_in"],
            "kept": stages[stage].get("kept", stages[stage].get("train_pairs", "")),
            "rejected": dict(sorted(stages[stage].get("rejected", {}).items())),
        }
        for stage in order
        if "rows_in" in stages.get(stage, {})
    ]
