"""What a candidate is compared with: numbers of the same analogies, or a sentence on why there are none."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorweb.data.manifest import file_sha256, read_manifest
from lorweb.evaluation.aggregate import Comparison, Row, paired
from lorweb.evaluation.fitting import misfits, trained_with
from lorweb.evaluation.gate import CHAMPION, COPY, FIRST_RIVAL, MODEL, SHUFFLED, Decision, Evidence, Further, decide
from lorweb.evaluation.gate_entries import Gate
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.results import evidence, per_task, rows_of, summarise
from lorweb.serving.registry import Registry, Version
from pipelines._answers import Plan, draw_and_measure
from pipelines._candidate import CANDIDATE_FOLDER, EVALUATION, Candidate, answers_of
from pipelines._stage import WORK


@dataclass(frozen=True)
class Rival:
    """What a candidate is compared with."""

    name: str  # "base model", or "champion, version 3"
    how: str  # a sentence: measured on the same set, measured again, or why it cannot be compared
    evidence: Evidence | None  # None for the base model, whose numbers the candidate's evidence holds
    set_sha256: str  # that its numbers were measured on when it was promoted; "" if unknown
    answers: Mapping[str, Any] = field(default_factory=dict)
    comparable: bool = True


@dataclass(frozen=True)
class Verdict:
    """What was decided, and how it came about."""

    decision: str  # promoted, refused or unchanged
    reasons: list[str]
    rival: Rival | None = None
    checks: tuple[dict[str, Any], ...] = ()


def compared(rival: Rival | None) -> dict[str, Any] | None:
    """With what a candidate was compared, and how, as the record says it; None where there was nothing to compare."""
    return None if rival is None else {"with": rival.name, "how": rival.how, "rival_set_sha256": rival.set_sha256}


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
