"""The candidate as promote finds it: weights, reports and answers that belong together, or a sentence."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import file_sha256, read_manifest
from lorweb.evaluation.aggregate import Row
from lorweb.evaluation.gate import MODEL, Evidence
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.results import Measured, evidence, rows_of
from pipelines._answers import Plan, measured_before

CANDIDATE_FOLDER: Final = Path("models/candidate")
REPORTS: Final = Path("reports")
EVALUATION: Final = Path("data/evaluation")


@dataclass(frozen=True)
class Candidate:
    """models/candidate with the numbers that were measured of it."""

    metadata: dict[str, Any]
    evidence: Evidence
    protocol: dict[str, Any]  # what another result must share to be compared
    set_sha256: str
    rows: Sequence[Row] = field(default_factory=list)  # of every model and analogy, in the order of the analogies
    answers: Mapping[str, Any] = field(default_factory=dict)  # per analogy, of MODEL; see `answers_of`


def read_candidate(plan: Plan) -> Candidate:
    """The candidate and its reports.

    Raises:
        FileNotFoundError: the train or evaluate stage has not run.
        ValueError: the reports are of other weights, another evaluation set or other settings than those at hand.
    """
    for path in (CANDIDATE_FOLDER / "metadata.json", REPORTS / "paired.json"):
        if not path.is_file():
            raise FileNotFoundError(f"no {path}; run `dvc repro evaluate` first")
    facts = json.loads((REPORTS / "paired.json").read_text(encoding="utf-8"))
    if facts["weights"].get(CANDIDATE) != file_sha256(CANDIDATE_FOLDER / "basis.safetensors"):
        raise ValueError("reports/ was made with other weights than models/candidate; run `dvc repro evaluate` first")
    _check_protocol(facts["protocol"], json.loads(json.dumps(plan.protocol)))
    _check_answers(facts)
    metrics = json.loads((REPORTS / "metrics.json").read_text(encoding="utf-8"))
    with (REPORTS / "per_task.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    metadata = json.loads((CANDIDATE_FOLDER / "metadata.json").read_text(encoding="utf-8"))
    measured = measured_before(plan, EVALUATION)
    return Candidate(
        metadata,
        evidence(metrics, table),
        facts["protocol"],
        facts["evaluation_set_sha256"],
        rows_of(measured),
        answers_of(measured),
    )


def _check_protocol(reported: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    odd = sorted(name for name in {*reported, *present} if reported.get(name) != present.get(name))
    if odd:
        told = ", ".join(f"{name} {reported.get(name)} there, {present.get(name)} now" for name in odd)
        raise ValueError(
            f"reports/ was measured otherwise than data/ and params.yaml say ({told}); run `dvc repro evaluate` first"
        )


def _check_answers(facts: Mapping[str, Any]) -> None:
    """The answers at hand are those that the reports were made of: checked out without them, they may be older."""
    if not EVALUATION.is_dir():
        return
    manifest = read_manifest(EVALUATION)
    if manifest["inputs"].get(CANDIDATE) != facts["weights"][CANDIDATE] or manifest["params"] != facts["protocol"]:
        raise ValueError(
            f"{EVALUATION} holds answers of other weights or settings than {REPORTS}; run `dvc checkout`, or "
            "`dvc repro evaluate`, first"
        )


def answers_of(measured: Sequence[Measured]) -> dict[str, Any]:
    """{analogy: {task, cells, metrics of MODEL}}: what a later candidate is paired with, analogy by analogy."""
    return {
        m.analogy: {"task": m.task, "cells": m.cells, "metrics": dict(m.scores[MODEL])}
        for m in measured
        if MODEL in m.scores
    }
