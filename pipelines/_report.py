"""What the evaluate stage shows: the page, sheets of pictures, the model card, and the mean mixes of training tasks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorweb.data.manifest import read_manifest
from lorweb.data.shards import RowReader
from lorweb.evaluation.failures import failures, losses
from lorweb.evaluation.glossary import described, worse_by
from lorweb.evaluation.local_names import base_name, encoder_name
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.pictures import PictureRow, pictured, png_bytes, sheet
from lorweb.evaluation.report import FailureData, MixData, ReportData, read_curve, write_report
from lorweb.evaluation.report_judge import judge_name
from lorweb.evaluation.report_views import DATA_STAGES
from lorweb.evaluation.results import CELLS, HEADLINE, Measured
from lorweb.evaluation.workers import ANSWER, decode_quadrant, first_answers
from lorweb.records import PAIR, stable_id
from pipelines._atoms import draw_gallery
from pipelines._card import write_card
from pipelines._mixes import Mixes, read_mixes

if TYPE_CHECKING:
    from pipelines._answers import Plan

EXTREMES: Final = 6  # rows of the best and of the worst answers
CURVES: Final = ("train_loss", "train_validation")
FAILURES: Final = 10  # rows of pictures; the page lists all of them in numbers
SHEET_SIDE: Final = 128  # px
TASK_MIXES: Final = "task_mixes.safetensors"


@dataclass(frozen=True)
class Inputs:
    """A finished evaluation: `answers` is the published data/evaluation."""

    plan: "Plan"
    measured: Sequence[Measured]
    answers: Path
    reports: Path


def write_reports(inputs: Inputs, shown: Mapping[str, Any]) -> None:
    """index.html, model_card.md, task_mixes.safetensors and pictures/<cell>.png, all below `inputs.reports`.

    `shown`: "metrics", "paired", "by_metric", "judge" and "tasks", as reports/ has them. Only the atom gallery is
    drawn here.
    """
    plan = inputs.plan
    gallery = _Gallery(inputs)
    chosen = {cell: [gallery.row(m) for m in found] for cell, found in choose(inputs).items() if found}
    for cell, rows in chosen.items():
        path = inputs.reports / "pictures" / f"{cell}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_bytes(png_bytes(sheet(rows, SHEET_SIDE)))
        partial.replace(path)
    lost = failures(inputs.measured, described(HEADLINE))
    mixes = read_mixes(plan)
    if mixes is not None:
        mixes.train.save(inputs.reports / TASK_MIXES, plan.weights[CANDIDATE])
    data = ReportData(
        headline=HEADLINE,
        **{name: shown[name] for name in ("metrics", "paired", "by_metric", "judge", "tasks")},
        pictures=chosen,
        failures=FailureData(
            lost, losses(inputs.measured, lost), [gallery.row(failure.measured) for failure in lost[:FAILURES]]
        ),
        mixes=mix_data(mixes, plan.analogies) if mixes is not None else None,
        atoms=draw_gallery(plan, plan.cfg.atoms, mixes.use_N) if mixes and plan.cfg.atoms else None,
        curves=training_curves(Path("metrics")),
        stages=stage_counts(Path("metrics")),
        facts=facts(inputs, judge_name(shown["judge"])),
    )
    write_report(data, inputs.reports / "index.html")
    write_card(inputs.reports / "model_card.md", plan, data)


def choose(inputs: Inputs) -> dict[str, list[Measured]]:
    """Per main cell one analogy of each of a few tasks, by hash; also the best and the worst answers of `lorweb`."""
    chosen = {
        cell: pick([m for m in inputs.measured if cell in m.cells], inputs.plan.cfg.pictures_per_cell) for cell in CELLS
    }
    judged = [m for m in inputs.measured if "lorweb" in m.scores and not m.subject_seen]
    headline = described(HEADLINE)
    ranked = sorted(judged, key=lambda m: (worse_by(m.scores["lorweb"][HEADLINE], 0.0, headline), m.analogy))
    return chosen | {"best": ranked[:EXTREMES], "worst": ranked[: -EXTREMES - 1 : -1]}


def pick(measured: Iterable[Measured], count: int) -> list[Measured]:
    """At most `count` analogies, each of another task, in an order that only their ids decide."""
    tasks: dict[str, Measured] = {}
    for m in sorted(measured, key=lambda m: stable_id("picture", m.analogy)):
        tasks.setdefault(m.task, m)
    return list(tasks.values())[:count]


class _Gallery:
    """Reads the images of single analogies."""

    def __init__(self, inputs: Inputs) -> None:
        self.plan = inputs.plan
        self.analogies = {row["id"]: row for row in inputs.plan.analogies}
        self.pairs = RowReader(inputs.plan.sources.pairs, PAIR, ["before", "after"])
        self.answers = RowReader(inputs.answers, ANSWER, ["image"])
        self.places = {(r["analogy"], r["model"]): r["at"] for r in first_answers(inputs.answers)}

    def row(self, m: Measured) -> PictureRow:
        """All images of one analogy at quadrant size."""
        analogy = self.analogies[m.analogy]
        exemplar, query = (self.pairs(self.plan.pairs[analogy[name]]["at"]) for name in ("exemplar", "query"))
        sides = {"a": exemplar["before"], "a2": exemplar["after"], "b": query["before"], "truth": query["after"]}
        images = {name: png_bytes(decode_quadrant(png, self.plan.sources.size())) for name, png in sides.items()}
        models = [model for model in m.scores if pictured(model)]
        images |= {model: self.answers(self.places[m.analogy, model])["image"] for model in models}
        scores = {model: m.scores[model][HEADLINE] for model in models}
        return PictureRow(m.task, str(analogy["instruction"]), m.cells[0], images, scores)


def mix_data(mixes: Mixes, analogies: Iterable[Mapping[str, Any]]) -> MixData:
    """What the page shows of them; `analogies` (the test ones) say which tasks are held out."""
    trained = frozenset(str(row["task"]) for row in analogies if row["holdout"] == "none")
    return MixData(mixes.test, mixes.near, mixes.health, trained)


def training_curves(folder: Path) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The loss columns of the curves that the last training left in `folder`."""
    paths = [folder / f"{name}.csv" for name in CURVES]
    found = {path.stem.replace("_", " "): read_curve(path) for path in paths if path.is_file()}
    return {name: {key: points for key, points in series.items() if "loss" in key} for name, series in found.items()}


def stage_counts(folder: Path) -> dict[str, dict[str, Any]]:
    """metrics/<stage>.json of the data stages, as of the last run of each."""
    paths = [folder / f"{stage}.json" for stage in DATA_STAGES]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()}


def facts(inputs: Inputs, judge: str | None = None) -> dict[str, str]:
    """What the numbers were made with; of folders the names alone."""
    plan = inputs.plan
    made = read_manifest(plan.sources.encoded)["params"]
    rows = {
        "test analogies": len(plan.analogies),
        "base": base_name(plan.settings.base),
        "query": f"{encoder_name(made.get('encoder', ''))} {made.get('query_mode', '')}".strip(),
        "quadrant": f"{plan.sources.quadrant} px",
        "steps and guidance": f"{plan.settings.steps}, {plan.settings.guidance}",
        "prompt": f"{'given' if plan.settings.prompt else 'none'}, except where the model's name says otherwise",
        "noises per analogy": plan.cfg.seeds,
        **{f"{part} backbone": f"{found.name} {found.revision}" for part, found in plan.backbones.items()},
        **({"judge": judge} if judge else {}),
        "evaluation set": plan.set_sha256,
        **{f"weights of {name}": digest for name, digest in sorted(plan.weights.items())},
    }
    return {name: str(value) for name, value in rows.items()}
