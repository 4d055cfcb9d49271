"""The gate against the champion; the alias moves only on a pass -> models/promoted.json. Safe to run twice."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from lorweb.config import load_params
from lorweb.evaluation.gate import Decision
from lorweb.evaluation.gate_entries import Gate
from lorweb.records import stable_id
from lorweb.serving.decisions import DECISION_FILE, EVIDENCE_FILE
from lorweb.serving.history import DONE, LONGEST, VOID
from lorweb.serving.processes import current_user
from lorweb.serving.reachable import first_line
from lorweb.serving.registry import EVIDENCE, ROLLED_BACK, Overtaken, Registry, State, Version, Why
from lorweb.serving.tracking import fault_of, tracking_uri
from lorweb.serving.versions import is_whole
from pipelines._answers import Plan, make_plan
from pipelines._candidate import Candidate, read_candidate
from pipelines._judgement import Rival, Verdict, compared, find_rival, judge
from pipelines._launch import hand_over
from pipelines._lineage import lineage
from pipelines._rows import Execute
from pipelines._stage import StageFailed, stage, write_text
from pipelines._submission import submission
from pipelines.summary import print_summary

OUT: Final = Path("models/promoted.json")
DECIDED: Final = "decision_key"  # tag: what a version was last judged by; an equal refusal is not recorded twice
JUDGEMENTS: Final = 3  # against champions that other processes replace meanwhile


def promote(registry: Registry, candidate: Candidate, gate: Gate, plan: Plan) -> dict[str, Any]:
    """Register the candidate, judge it, move the aliases on a pass; returns the record of `models/promoted.json`.

    Raises:
        Overtaken: other processes have replaced the champion again and again while this one judged.
    """
    registry.settle()
    retell(registry)
    tags = lineage(Path(), candidate.metadata)
    version = registry.submit(submission(candidate, tags, gate.metric))
    for attempt in range(1, JUDGEMENTS + 1):
        seen = registry.settle()
        version = registry.by_number(version.number)
        try:
            verdict = decide_on(registry, version, candidate, gate, plan)
            if verdict.decision != "unchanged":
                record(registry, version, (candidate, verdict, gate), seen)
            break
        except Overtaken:
            if attempt == JUDGEMENTS:
                raise
    champion, previous = registry.by_alias("champion"), registry.by_alias("previous")
    return {
        "decision": verdict.decision,
        "reasons": verdict.reasons,
        "compared": compared(verdict.rival),
        "checks": list(verdict.checks),
        "model": registry.name,
        "version": version.number,
        "champion": champion.number if champion else None,
        "previous": previous.number if previous else None,
        "metrics": {cell: models.get("lorweb", {}) for cell, models in candidate.evidence.cells.items()},
        "evaluation_set_sha256": candidate.set_sha256,
        "lineage": {**tags, "mlflow_run_id": version.run_id, "content_sha256": version.content},
    }


def decide_on(registry: Registry, version: Version, candidate: Candidate, gate: Gate, plan: Plan) -> Verdict:
    """Promoted, refused, or unchanged where there is nothing to decide."""
    champion = registry.by_alias("champion")
    if champion is not None and champion.content == version.content:
        name = f"version {champion.number}"
        if champion.number == version.number or is_whole(registry.name, champion.number, registry.root):
            same = f"{name} is the champion already; the candidate has the same bytes. It was promoted with:"
            return Verdict("unchanged", [same, *_why(registry, champion)])
        lost = f"the champion, {name}, has the same bytes, and its files are gone or damaged; these take their place"
        return Verdict("promoted", [lost])
    if ROLLED_BACK in version.tags:
        hint = f"`lorweb registry promote {version.number} --reason TEXT` brings it back"
        return Verdict(
            "refused", [f"version {version.number} was rolled back by hand and is not promoted by itself; {hint}"]
        )
    rival = find_rival(registry, champion, candidate, gate, plan)
    found = judge(candidate, rival, gate, plan)
    return Verdict("promoted" if found.promoted else "refused", _reasons(found, rival), rival, tuple(found.listed()))


def _why(registry: Registry, version: Version) -> list[str]:
    """What the champion was promoted with: the gate's reasons, or what the person said who did it."""
    known = registry.evidence(version) or {}
    if known.get("decision") == "promoted":
        return list(known["reasons"])
    moves = [move for move in registry.moves() if move.after.champion == version.number and move.settled != VOID]
    return [f"moved by {moves[-1].why.by or 'somebody'}: {moves[-1].why.reason or 'no reason given'}"] if moves else []


def _reasons(found: Decision, rival: Rival) -> list[str]:
    """The gate's, after a word on a champion that had to be measured again."""
    again = rival.comparable and rival.how.endswith("measured again on the candidate's")
    return [rival.how, *found.reasons] if again else found.reasons


def record(registry: Registry, version: Version, judged: tuple[Candidate, Verdict, Gate], seen: State) -> None:
    """Keep the decision as a run, move the aliases if it is a pass, and only then say so in the version's tags.

    An equal refusal is not recorded again.

    Raises:
        Overtaken: the champion is not the one any more that was there when it was decided.
    """
    candidate, verdict, gate = judged
    proof = {"cells": candidate.evidence.cells, "tasks": candidate.evidence.tasks, "protocol": candidate.protocol}
    key = stable_id(
        verdict.decision, json.dumps([verdict.reasons, gate.model_dump(mode="json"), proof], sort_keys=True)
    )
    told = version.tags
    newest = told.get("decision_run") == told.get(EVIDENCE)  # evidence of a pass that was not carried out is newer
    if told.get("decision") == verdict.decision == "refused" and told.get(DECIDED) == key and newest:
        return
    by = f"{current_user()} (promote)"
    reasons = " | ".join(verdict.reasons)
    facts = {"decision": verdict.decision, "reasons": verdict.reasons}
    decision = {
        **facts,
        "by": by,
        "model": registry.name,
        "version": version.number,
        "from": asdict(seen),
        "gate": gate.model_dump(mode="json"),
        "compared": compared(verdict.rival),
        "checks": list(verdict.checks),
        "evaluation_set_sha256": candidate.set_sha256,
    }
    evidence = {**proof, **facts, "answers": candidate.answers}
    files: dict[str, dict[str, Any]] = {DECISION_FILE: decision, EVIDENCE_FILE: evidence}
    tags = {"decision": verdict.decision, "by": by, "reasons": reasons[:LONGEST], "champion": str(seen.champion)}
    run = registry.record(version, f"promote: {verdict.decision}", files, tags)
    if verdict.decision == "promoted":
        registry.promote(version, Why(by, reasons, run), seen)
    tell(registry, version, verdict.decision, reasons, run)
    registry.tag(version, DECIDED, key)


def tell(registry: Registry, version: Version, decision: str, reasons: str, run: str) -> None:
    """The last decision on a version as its tags; `decision_run` comes last, and says that they are whole."""
    for name, value in (("decision", decision), ("decision_reasons", reasons[:LONGEST]), ("decision_run", run)):
        registry.tag(version, name, value)


def retell(registry: Registry) -> None:
    """Write the tags of a promotion that a process has made and died before it could say so."""
    champion = registry.by_alias("champion")
    moves = [move for move in registry.moves() if move.settled == DONE]
    if champion is None or not moves:
        return
    kind, number, why = moves[-1].kind, moves[-1].after.champion, moves[-1].why
    if kind == "promote" and number == champion.number and champion.tags.get("decision_run") != why.run:
        decision = registry.decisions.read(why.run, DECISION_FILE) or {}
        if decision.get("decision") == "promoted":  # by hand it says "promote"
            tell(registry, champion, "promoted", why.reason, why.run)


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    with stage("promote") as metrics:
        from mlflow.exceptions import MlflowException

        cfg = params.promote
        plan = replace(
            make_plan(params.evaluate, params.seed, params.encode.base, params.encode.quadrant), execute=execute
        )
        candidate = read_candidate(plan)
        try:
            found = promote(Registry(cfg.model, create=True), candidate, cfg.gate, plan)
        except MlflowException as error:
            first = fault_of(str(error), tracking_uri()) or first_line(error)
            raise StageFailed(
                f"the model registry refused: {first}; see MLFLOW_TRACKING_URI, then run it again"
            ) from error
        write_text(OUT, json.dumps(found, indent=1, sort_keys=True) + "\n")
        metrics.update(decision=found["decision"], version=found["version"])
    print_summary(Path())


if __name__ == "__main__":
    hand_over("promote")
    main()
