"""The numbers of the report in the form that its template lays out: bars, maps, tables.

Legend: T tasks, L layers, N LoRAs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lorweb.basis.health import Health
from lorweb.basis.health_picture import health_picture
from lorweb.evaluation.gate import Metrics
from lorweb.evaluation.glossary import Metric, best_of
from lorweb.evaluation.neighbours import TaskMixes
from lorweb.evaluation.pictures import LABELS, heat_image, ramp

HOLDOUTS: Final = {
    "none": "trained tasks",
    "value": "held out: values",
    "composition": "held out: compositions",
    "edit": "held out: whole edits",
}
DATA_STAGES: Final = ("collect", "generate", "filter", "assemble", "encode")
MARKS: Final = ("single_lora", "copy")  # on the bars of our model
WORST_LAYERS: Final = 5
HEALTH: Final = {
    "effective_loras": "LoRAs that an analogy uses: exp of the entropy of its mix; 1 is one LoRA, N an even mix",
    "mix_spread": "standard deviation of a coefficient over analogies; 0 means that the exemplar is not heard",
    "update_variation": "share of the update that changes with the analogy; 0 is one static LoRA",
    "update_rank": "effective rank of the update of a layer",
    "basis_rank": "effective number of distinct atoms of a layer; at most N",
    "unused_loras": "share of (layer, LoRA) that never gets a tenth of an even share",
    "dead_atoms": "atoms that add nothing, of all layers",
    "duplicate_pairs": "pairs of atoms of one layer that are one atom twice",
}


def models_in(metrics: Metrics) -> list[str]:
    """Every model of any cell, known ones in the order of their labels."""
    found = {model for cell in metrics.values() for model in cell}
    return [model for model in LABELS if model in found] + sorted(found - set(LABELS))


def best_models(metrics: Metrics, known: Sequence[Metric]) -> dict[str, dict[str, str | None]]:
    """{cell: {metric: model with the best mean}} among what is drawn and a copied b: not what has seen the truth."""
    order = models_in(metrics)
    means = {
        cell: {
            metric.name: {m: models[m][metric.name]["mean"] for m in order if metric.name in models.get(m, {})}
            for metric in known
        }
        for cell, models in metrics.items()
    }
    return {
        cell: {
            metric.name: best_of({m: v for m, v in found[metric.name].items() if m != "codec_truth"}, metric)
            for metric in known
        }
        for cell, found in means.items()
    }


def bar_groups(tasks: Sequence[Mapping[str, Any]], headline: Metric) -> list[dict[str, Any]]:
    """Per kind of hold-out the tasks, best first: value, width of the bar and places of the marks in percent."""
    marks = [name for name in MARKS if any(f"{headline.name}.{name}" in row for row in tasks)]
    groups = []
    for holdout, title in HOLDOUTS.items():
        rows = [row for row in tasks if row["holdout"] == holdout and headline.name in row]
        values = [[float(row[headline.name]), *(float(row[f"{headline.name}.{m}"]) for m in marks)] for row in rows]
        low, high = (min([0.0, *map(min, values)]), max([0.0, *map(max, values)]) or 1.0) if values else (0.0, 1.0)

        def percent(value: float, low: float = low, high: float = high) -> str:
            return f"{100 * (value - low) / (high - low or 1.0):.1f}"

        bars: list[dict[str, Any]] = [
            {
                "task": str(row["task"]),
                "value": found[0],
                "width": percent(found[0]),
                "marks": [(m, percent(v), v) for m, v in zip(marks, found[1:], strict=True)],
            }
            for row, found in zip(rows, values, strict=True)
        ]
        sign = -1.0 if headline.lower_is_better is False else 1.0
        bars.sort(key=lambda bar: (sign * bar["value"], bar["task"]))
        if bars:
            groups.append({"title": title, "bars": bars, "marks": marks})
    return groups


def layer_map(test: TaskMixes) -> dict[str, Any]:
    """Mean mix of every layer as a picture, one pixel each, LoRAs downwards and layers to the right; and its range."""
    layers_LN = test.mixes_TLN.mean(0)
    image, low, high = heat_image(layers_LN.T, 1)
    return {"image": image, "shape": layers_LN.shape, "low": low, "high": high}


def mix_rows(
    test: TaskMixes, near: Mapping[str, Sequence[tuple[str, float]]], trained: frozenset[str]
) -> list[dict[str, Any]]:
    """One row per test task, held-out ones first: its mix over all layers as a band of colours, and who is near."""
    mean_TN = test.mixes_TLN.mean(1)
    colours = ramp(mean_TN)
    rows = []
    for row, task in enumerate(test.tasks):
        stops = np.linspace(0, 100, mean_TN.shape[1] + 1)
        band = ",".join(
            f"#{bytes(colour).hex()} {start:.4g}% {end:.4g}%"
            for colour, start, end in zip(colours[row], stops[:-1], stops[1:], strict=True)
        )
        first = int(mean_TN[row].argmax())
        told = f"largest: LoRA {first} with {mean_TN[row, first]:.3f}; smallest {mean_TN[row].min():.3f}"
        rows.append(
            {"task": task, "trained": task in trained, "band": band, "told": told, "near": list(near.get(task, ()))}
        )
    return sorted(rows, key=lambda found: (found["trained"], found["task"]))


def health_rows(health: Health) -> dict[str, Any]:
    """Totals with what they mean, the layers to look at first, and the picture."""
    totals = health.summary()
    worst = [(name, health.layers[name]) for name in health.worst(WORST_LAYERS)]
    return {
        "rows": [(name, totals[name], meaning) for name, meaning in HEALTH.items()],
        "atoms": health.atoms,
        "layers": len(health.layers),
        "queries": health.queries,
        "worst": [
            {"layer": name, "dead": len(row.dead), "doubled": len(row.duplicates), "moves": row.update_variation}
            for name, row in worst
        ],
        "picture": health_picture(health),
    }


def funnel(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the data stages in pipeline order; stages without counts are left out."""
    return [
        {
            "stage": stage,
            "rows_in": stages[stage]["rows_in"],
            "kept": stages[stage].get("kept", stages[stage].get("train_pairs", "")),
            "rejected": dict(sorted(stages[stage].get("rejected", {}).items())),
        }
        for stage in DATA_STAGES
        if "rows_in" in stages.get(stage, {})
    ]
