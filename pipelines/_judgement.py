"""The candidate and what it is compared with: numbers of the same analogies, or a sentence on why there are none."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import file_sha256, read_manifest
from lorweb.evaluation.aggregate import Comparison, Row, paired
from lorweb.evaluation.fitting import misfits, trained_with
from lorweb.evaluation.gate import CHAMPION, COPY, FIRST_RIVAL, MODEL, SHUFFLED, Decision, Evidence, Further, decide
from lorweb.evaluation.gate_entries import Gate
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.results import Measured, evidence, per_task, rows_of, summarise
from lorweb.serving.registry import Registry, Version
from pipelines._answers import Plan, draw_and_measure, measured_before
from pipelines._stage import WORK

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


@dataclass(frozen=True)
class Rival:
    """What a candidate is compared with."""

    name: str  # "base model", or "champion, version 3"
    how: str  # a sentence: measured on the same set, measured again, or why it cannot be compared
    evidence: Evidence | None  # None for the base model, whose numbers the candidate's evidence holds
    set_sha256: str  # that its numbers were measured on when it was promoted; "" if unknown
    answers: Mapping[str, Any] = field(default_factory=dict)
    comparable: bool = True


def compared(rival: Rival | None) -> dict[str, Any] | None:
    """With what a candidate was compared, and how, as the record says it; None where there was nothing to compare."""
    return None if rival is None else {"with": rival.name, "how": rival.how, "rival_set_sha256": rival.set_sha256}


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


def answers_of(measured: Sequence[Measured]) -> dict[str, Any]:
    """{analogy: {task, cells, metrics of MODEL}}: what a later candidate is paired with, analogy by analogy."""
    return {
        m.analogy: {"task": m.task, "cells": m.cells, "metrics": dict(m.scores[MODEL])}
        for m in measured
        if MODEL in m.scores
    }


def find_rival(registry: Registry, champion: Version | None, candidate: Candidate, gate: Gate, plan: Plan) -> Rival:
    """The champion's numbers on the candidate's evaluation set: those it was judged by, or measured again.

    Raises:
        ValueError: the files of the champion are gone or damaged.
    """
    if champion is None:
        return Rival("base model", "there is no champion yet", None, candidate.set_sha256)
    name, known = f"champion, version {champion.number}", registry.evidence(champion)
    theirs = str((known or {}).get("protocol", {}).get("set", ""))
    same = known is not None and known["protocol"] == candidate.protocol
    if known is not None and same and (known.get("answers") or gate.margin_at == "mean"):
        how = f"measured on the same evaluation set, {candidate.set_sha256}, with the same settings"
        return Rival(name, how, Evidence(known["cells"], known["tasks"]), theirs, known.get("answers", {}))
    folder = registry.folder(champion)
    odd = misfits(trained_with(folder), read_manifest(plan.sources.encoded)["params"])
    unlike = theirs or "one that is not known"
    sets = f"the candidate was measured on evaluation set {candidate.set_sha256}, the champion on {unlike}"
    if odd:
        told = ", ".join(f"{what} ({there}, {plan.sources.encoded} has {here})" for what, (there, here) in odd.items())
        how = f"the {name}, differs in {told} and cannot be measured on this evaluation set: {sets}"
        return Rival(name, how, None, theirs, comparable=False)
    again, answers = measure_again(plan, folder)
    how = f"{sets}{_settings(candidate, known)}; the champion was measured again on the candidate's"
    return Rival(name, how, again, theirs, answers)


def _settings(candidate: Candidate, known: Mapping[str, Any] | None) -> str:
    before = (known or {}).get("protocol", {})
    odd = sorted(name for name in {*before, *candidate.protocol} if before.get(name) != candidate.protocol.get(name))
    return f" (they differ in {', '.join(odd)})" if before and odd else ""


def measure_again(plan: Plan, folder: Path) -> tuple[Evidence, dict[str, Any]]:
    """(evidence, answers) of another model on the present evaluation set; finished rows are kept in .work/promote."""
    weights = folder / "basis.safetensors"
    place = WORK / "promote" / "champion_weights"  # the registry keeps them anywhere; workers read below the root
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(folder.resolve())
    other = replace(
        plan,
        cfg=plan.cfg.model_copy(update={"models": ("lorweb",)}),
        sources=replace(plan.sources, weights={CANDIDATE: place}),
        weights={CANDIDATE: file_sha256(weights)},
        work="promote",
    )
    answers = WORK / "promote" / "champion"
    shutil.rmtree(answers, ignore_errors=True)
    answers.mkdir(parents=True)
    measured = draw_and_measure(other, answers)
    metrics = summarise(rows_of(measured), plan.cfg.bootstrap, plan.seed)
    return evidence(metrics, per_task(measured)), answers_of(measured)


def judge(candidate: Candidate, rival: Rival, gate: Gate, plan: Plan) -> Decision:
    """The gate's answer, with what only this gate asks for."""
    if not rival.comparable:
        by_hand = "compare by hand, and promote with `lorweb registry promote VERSION --reason TEXT`"
        return Decision(False, [f"{rival.how}; {by_hand}"])
    intervals = intervals_of(candidate, rival, gate, plan) if gate.margin_at == "low" else {}
    health, fault = measured_health() if gate.health is not None else ({}, "")
    return decide(candidate.evidence, rival.evidence, gate, Further(intervals, health, fault))


def intervals_of(candidate: Candidate, rival: Rival, gate: Gate, plan: Plan) -> dict[str, dict[str, Any]]:
    """{cell: {rival: summary of rival minus candidate}} in the cells of the gate, for the pairs that can be made."""
    rows = [*candidate.rows, *_rows(rival.answers)] if set(rival.answers) == set(candidate.answers) else candidate.rows
    found: dict[str, dict[str, Any]] = {}
    for cell in gate.cells:
        there = {row.model for row in rows if row.cell == cell and gate.metric in row.metrics}
        for other in {FIRST_RIVAL, SHUFFLED, COPY, CHAMPION} & there:
            compared = Comparison(other, MODEL, gate.metric, cell)
            found.setdefault(cell, {})[other] = paired(rows, compared, plan.cfg.bootstrap, plan.seed)
    return found


def _rows(answers: Mapping[str, Any]) -> list[Row]:
    """Rows of the champion, in the order of the analogies."""
    ordered = sorted(answers.items())
    return [Row(of["task"], cell, CHAMPION, of["metrics"]) for _, of in ordered for cell in of["cells"]]


def measured_health() -> tuple[dict[str, float], str]:
    """(health of the candidate on the test analogies with dead atoms as a share, ""), or ({}, why there is none)."""
    from lorweb.model_health import measure

    try:
        found = measure(CANDIDATE_FOLDER / "basis.safetensors", EVALUATION.parent, None)
    except (ValueError, FileNotFoundError) as error:
        return {}, str(error)
    return {**dict(found.summary()), "dead_atoms": found.dead_atoms / found.atoms}, ""
