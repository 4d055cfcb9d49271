"""What the evaluate stage shows: pictures, mixes, curves and counts from files, as one page and as sheets."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lorweb.data.manifest import read_manifest
from lorweb.data.shards import RowReader
from lorweb.evaluation.pictures import INSET, PictureRow, png_bytes, sheet
from lorweb.evaluation.report import Heat, Metric, ReportData, read_curve, write_report
from lorweb.evaluation.results import CELLS, HEADLINE, Measured
from lorweb.evaluation.workers import ANSWER, decode_quadrant, first_answers, read_mix
from lorweb.records import PAIR, stable_id

if TYPE_CHECKING:
    from pipelines._answers import Plan

EXTREMES: Final = 6  # rows of the best and of the worst answers
SHEET_SIDE: Final = 128  # px
GLOSSARY: Final[dict[str, tuple[str, bool | None]]] = {
    "perceptual_to_truth": (
        "distance of b′ to the true b′ in the form of LPIPS but without its weights: differences of normalised "
        "activations of the OpenNSFW network, which no filter threshold, query or loss was fitted with; 0 is equal",
        True,
    ),
    "ssim_to_truth": ("structural similarity of b′ and the true b′; 1 is equal", False),
    "color_to_truth": ("CIEDE2000 difference of colours averaged over an 8 × 8 grid; 1 is just visible", True),
    "mse_to_truth": ("mean squared difference of pixel values between 0 and 1", True),
    "psnr_to_truth": ("the same in dB", False),
    "feature_direction": (
        "cosine of the change b → b′ and the change a → a′ in features of the OpenNSFW network; stands in for CLIP's "
        "directional similarity and is not that number",
        False,
    ),
    "lpips_to_truth": ("LPIPS of b′ and the true b′ with the weights that were given; 0 is equal", True),
    "lpips_to_source": ("LPIPS of b′ and b: how much was changed (the paper's LPIPS)", None),
    "clip_direction": ("cosine of the changes b → b′ and a → a′ in CLIP's image embedding", False),
    "siglip2_direction": ("cosine of the changes b → b′ and a → a′ in SigLIP's image embedding", False),
    "dino_direction": ("cosine of the changes b → b′ and a → a′ in DINO's features", False),
    "judge_accuracy": ("a vision language model's grade of the edit, 1 to 10", False),
    "judge_preservation": ("a vision language model's grade of what was to stay, 1 to 10", False),
    "perceptual_to_source": ("distance of b′ to b in the measure of perceptual_to_truth: how much was changed", None),
}


@dataclass(frozen=True)
class Inputs:
    """A finished evaluation: `answers` is the published data/evaluation."""

    plan: "Plan"
    measured: Sequence[Measured]
    answers: Path
    reports: Path


def write_reports(inputs: Inputs, shown: Mapping[str, Any]) -> None:
    """reports/index.html, and reports/pictures/<cell>.png for each cell that has pictures."""
    pictures = choose_pictures(inputs)
    measured = {name for models in shown["metrics"].values() for found in models.values() for name in found}
    for cell, rows in pictures.items():
        path = inputs.reports / "pictures" / f"{cell}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_bytes(png_bytes(sheet(rows, SHEET_SIDE)))
        partial.replace(path)
    data = ReportData(
        headline=HEADLINE,
        glossary=[Metric(name, *GLOSSARY[name]) for name in GLOSSARY if name in measured],
        pictures=pictures,
        heat=mean_mix(inputs),
        curves=training_curves(Path("metrics")),
        stages=stage_counts(Path("metrics")),
        facts=facts(inputs),
        **shown,
    )
    write_report(data, inputs.reports / "index.html")


def choose_pictures(inputs: Inputs) -> dict[str, list[PictureRow]]:
    """Per main cell one analogy of each of a few tasks, by hash; also the best and the worst answers of `lorweb`."""
    chosen = {
        cell: pick([m for m in inputs.measured if cell in m.cells], inputs.plan.cfg.pictures_per_cell) for cell in CELLS
    }
    judged = [m for m in inputs.measured if "lorweb" in m.scores and not m.subject_seen]
    ranked = sorted(judged, key=lambda m: (m.scores["lorweb"][HEADLINE], m.analogy))
    chosen |= {"best": ranked[:EXTREMES], "worst": ranked[: -EXTREMES - 1 : -1]}
    gallery = _Gallery(inputs)
    return {cell: [gallery.row(m) for m in found] for cell, found in chosen.items() if found}


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
        images |= {model: self.answers(self.places[m.analogy, model])["image"] for model in m.scores if model in INSET}
        scores = {model: values[HEADLINE] for model, values in m.scores.items() if model in INSET}
        return PictureRow(m.task, str(analogy["instruction"]), m.cells[0], images, scores)


def mean_mix(inputs: Inputs) -> Heat | None:
    """Coefficients of `lorweb` over the test analogies, mean per layer and mean per task; None where there are none."""
    places = [row for row in first_answers(inputs.answers) if row["model"] == "lorweb"]
    if not places:
        return None
    task = {m.analogy: m.task for m in inputs.measured}
    reader = RowReader(inputs.answers, ANSWER, ["mix"])
    by_task: dict[str, list[Any]] = defaultdict(list)
    for row in places:
        blob = reader(row["at"])["mix"]
        if blob is None:  # internal queries have no coefficients of the analogy
            return None
        by_task[task[row["analogy"]]].append(read_mix(blob).double().numpy())
    means = {name: np.mean(found, axis=0) for name, found in sorted(by_task.items())}
    stacked = np.stack(list(means.values()))
    return Heat(stacked.mean(axis=0), stacked.mean(axis=1), list(means))


def training_curves(folder: Path) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The loss columns of metrics/train_*.csv."""
    found = {path.stem.replace("_", " "): read_curve(path) for path in sorted(folder.glob("train_*.csv"))}
    return {name: {key: points for key, points in series.items() if "loss" in key} for name, series in found.items()}


def stage_counts(folder: Path) -> dict[str, dict[str, Any]]:
    """metrics/<stage>.json by stage name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def facts(inputs: Inputs) -> dict[str, str]:
    """What the numbers were made with."""
    plan = inputs.plan
    encoded = read_manifest(plan.sources.encoded)
    rows = {
        "test analogies": len(plan.analogies),
        "base": plan.settings.base,
        "query": f"{encoded['params'].get('encoder', '')} {encoded['params'].get('query_mode', '')}".strip(),
        "quadrant": f"{plan.sources.quadrant} px",
        "steps and guidance": f"{plan.settings.steps}, {plan.settings.guidance}",
        "prompt": "given to every model" if plan.settings.prompt else "none, except where the model's name says so",
        "noises per analogy": plan.cfg.seeds,
        **{f"{part} backbone": f"{found.name} {found.revision}" for part, found in plan.backbones.items()},
        "evaluation set": plan.set_sha256,
        **{f"weights of {name}": digest for name, digest in sorted(plan.weights.items())},
    }
    return {name: str(value) for name, value in rows.items()}
