"""What goes into the registry beside the weights: parameters, reports, licences, and a few words for MLflow's page."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.data.shards import read_index, read_table
from lorweb.evaluation.base_licence import licence_of_base
from lorweb.evaluation.gate import MODEL, Evidence
from lorweb.evaluation.local_names import base_name, encoder_name
from lorweb.records import DERIVED, PAIR, TRAIN_PAIR
from lorweb.serving.artifacts import Submission
from pipelines._answers import ANALOGIES, PAIRS
from pipelines._candidate import CANDIDATE_FOLDER, REPORTS, Candidate
from pipelines._mlflow_run import flatten

PARAMS: Final = Path("params.yaml")
REPORTED: Final = ("index.html", "metrics.json", "paired.json", "judge.json", "per_task.csv", "model_card.md")
LONGEST: Final = 500  # characters of a parameter that every MLflow server takes


def submission(candidate: Candidate, tags: Mapping[str, str], metric: str) -> Submission:
    """The candidate with everything that is there of it; `metric` is the one that its description shows."""
    raw = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    files = {f"report/{name}": REPORTS / name for name in REPORTED if (REPORTS / name).is_file()}
    found = {**tags, **licences(candidate.metadata)}
    return Submission(
        CANDIDATE_FOLDER,
        flat_metrics(candidate.evidence),
        found,
        {name: value[:LONGEST] for name, value in flatten(raw).items()},
        {"config/params.yaml": PARAMS, **files},
        _description(candidate, found, metric),
        candidate.set_sha256,
    )


def flat_metrics(found: Evidence) -> dict[str, float]:
    """Means as MLflow metrics, `<cell>/<model>/<metric>`."""
    return {
        f"{cell}/{model}/{metric}": float(value["mean"])
        for cell, models in found.cells.items()
        for model, metrics in models.items()
        for metric, value in metrics.items()
    }


def licences(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Tags: the licences of the training pairs with their counts, as JSON, and that of the base as far as it is known.

    A derived pair counts as the pairs that its two images come from.
    """
    drawn = {row["pair"] for row in read_table(ANALOGIES / "train", TRAIN_PAIR, ["pair"]).to_pylist()}
    if (ANALOGIES / "derived").is_dir():
        for row in read_table(ANALOGIES / "derived", DERIVED, ["pair", "before_pair", "after_pair"]).to_pylist():
            if row["pair"] in drawn:
                drawn |= {row["before_pair"], row["after_pair"]}
    counts = Counter(row["licence"] for row in read_index(PAIRS, PAIR, ["id", "licence"]) if row["id"] in drawn)
    return {"licences": json.dumps(dict(sorted(counts.items()))), "base_licence": base_licence(str(metadata["base"]))}


def base_licence(base: str) -> str:
    """Of the base, or where to look."""
    found = licence_of_base(base)
    return str(found) if found.known else f"unknown; see {base_name(base)}"


def _description(candidate: Candidate, tags: Mapping[str, str], metric: str) -> str:
    """Markdown for the page of the version."""
    lines = [f"| cell | {metric} | 95 % interval | analogies |", "|---|---|---|---|"]
    for cell, models in candidate.evidence.cells.items():
        found = models.get(MODEL, {}).get(metric)
        if found is not None:
            lines.append(f"| {cell} | {found['mean']:.4f} | {found['low']:.4f} to {found['high']:.4f} | {found['n']} |")
    made = candidate.metadata
    facts = [
        f"Base {base_name(str(made['base']))}, encoder {encoder_name(str(made['encoder']))}; "
        f"evaluation set {candidate.set_sha256[:16]}; lineage {tags.get('lineage_key', '')}.",
        f"Licences of the training pairs: {tags['licences']}; of the base: {tags['base_licence']}.",
    ]
    return "\n".join([*lines, "", *facts])
