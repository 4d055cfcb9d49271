"""One self-contained HTML file: numbers with intervals, pictures, charts. It loads nothing from anywhere."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from lorweb.basis.health import Health
from lorweb.charts import line_chart, page_style
from lorweb.evaluation import report_judge as judging
from lorweb.evaluation import report_views as views
from lorweb.evaluation.atoms import AtomGallery
from lorweb.evaluation.failures import Failure, Losses
from lorweb.evaluation.gate import Metrics
from lorweb.evaluation.glossary import described, metrics_in
from lorweb.evaluation.neighbours import TaskMixes
from lorweb.evaluation.pictures import GIVEN, LABELS, PictureRow
from lorweb.evaluation.results import CELLS
from lorweb.evaluation.thumbnails import drawing, thumbnail
from lorweb.evaluation.verdicts import Paired, comparisons, sense, show, verdicts

STYLE: Final = "report.css"  # on top of the style of all our pages
TEMPLATE: Final = "report.html"


@dataclass(frozen=True)
class MixData:
    """What the router mixes on the test analogies, and the training tasks (with cosines) that each task is near to."""

    test: TaskMixes
    near: Mapping[str, Sequence[tuple[str, float]]]
    health: Health
    trained: frozenset[str]  # test tasks that are not held out


@dataclass(frozen=True)
class FailureData:
    """Where our model loses, worst first; pictures of the first few."""

    found: Sequence[Failure]
    losses: Sequence[Losses]
    pictures: Sequence[PictureRow]


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows; what is empty is left out of it."""

    headline: str  # name of the metric that bars, captions and gate use
    metrics: Metrics
    paired: Paired  # of the headline
    tasks: Sequence[Mapping[str, Any]]  # rows of reports/per_task.csv
    pictures: Mapping[str, Sequence[PictureRow]]  # by cell, plus "best" and "worst"
    by_metric: Mapping[str, Paired] = field(default_factory=dict)  # of the other metrics, in the main cells
    judge: judging.Verdicts = field(default_factory=dict)  # reports/judge.json
    failures: FailureData | None = None
    mixes: MixData | None = None
    atoms: AtomGallery | None = None
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # metrics/<stage>.json
    facts: Mapping[str, str] = field(default_factory=dict)  # base, encoder, settings, hashes


def render(data: ReportData) -> str:
    """The page as text; the same data gives the same text."""
    metrics = metrics_in(data.metrics)
    headline = described(data.headline)
    page: str = _template().render(
        style=page_style() + Path(__file__).with_name(STYLE).read_text(encoding="utf-8"),
        data=data,
        cells=[(cell, CELLS.get(cell, cell.replace("_", " "))) for cell in data.metrics],
        main_cells=[cell for cell in data.metrics if cell in CELLS],
        models=views.models_in(data.metrics),
        labels=LABELS,
        given=GIVEN,
        metrics=metrics,
        headline=headline,
        best=views.best_models(data.metrics, metrics),
        verdicts=verdicts(data.metrics, data.paired, headline, data.by_metric),
        differences=[headline, *(metric for metric in metrics if metric.name in data.by_metric)],
        comparisons=comparisons(data.paired, data.by_metric),
        sense=sense,
        judge=judging.judge_name(data.judge),
        judge_counts=judging.judge_counts(data.judge),
        preferences=judging.preference_rows(data.judge),
        outcomes=judging.outcome_names(data.judge),
        bars=views.bar_groups(data.tasks, headline),
        layers=views.layer_map(data.mixes.test) if data.mixes else None,
        mix_rows=views.mix_rows(data.mixes.test, data.mixes.near, data.mixes.trained) if data.mixes else [],
        health=views.health_rows(data.mixes.health) if data.mixes else None,
        curves=[(name, svg) for name, series in data.curves.items() if (svg := line_chart(series, name))],
        funnel=views.funnel(data.stages),
        show=show,
        thumb=thumbnail,
        drawing=drawing,
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
    return environment.get_template(TEMPLATE)
