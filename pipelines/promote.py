"""The gate against the champion; the alias moves only on a pass -> models/promoted.json. Safe to run twice."""

import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lorweb.config import Gate, load_params
from lorweb.data.manifest import file_sha256
from lorweb.evaluation.gate import Decision, Evidence, decide
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.results import evidence, per_task, rows_of, summarise
from lorweb.records import stable_id
from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import ROLLED_BACK, Registry, Version
from pipelines._answers import Plan, draw_and_measure, make_plan
from pipelines._lineage import lineage
from pipelines._rows import Execute
from pipelines._stage import WORK, StageFailed, stage, write_text
from pipelines.summary import print_summary

OUT: Final = Path("models/promoted.json")
CANDIDATE_FOLDER: Final = Path("models/candidate")
REPORTS: Final = Path("reports")
DECIDED: Final = (
    "decision_key"  # tag: what the version was last judged by, so that an equal judgement is not recorded twice
)
SAME_MODEL: Final = ("base_revision", "encoder", "encoder_revision", "quadrant", "latents")


@dataclass(frozen=True)
class Candidate:
    """models/candidate with the numbers that were measured of it."""

    metadata: dict[str, Any]
    evidence: Evidence
    protocol: dict[str, Any]  # what another result must share to be compared
    set_sha256: str


def read_candidate() -> Candidate:
    """The candidate and its reports.

    Raises:
        FileNotFoundError: the train or evaluate stage has not run.
        ValueError: the reports are of other weights.
    """
    for path in (CANDIDATE_FOLDER / "metadata.json", REPORTS / "paired.json"):
        if not path.is_file():
            raise FileNotFoundError(f"no {path}; run `dvc repro evaluate` first")
    facts = json.loads((REPORTS / "paired.json").read_text(encoding="utf-8"))
    if facts["weights"].get(CANDIDATE) != file_sha256(CANDIDATE_FOLDER / "basis.safetensors"):
        raise ValueError("reports/ was made with other weights than models/candidate; run `dvc repro evaluate` first")
    metrics = json.loads((REPORTS / "metrics.json").read_text(encoding="utf-8"))
    with (REPORTS / "per_task.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    metadata = json.loads((CANDIDATE_FOLDER / "metadata.json").read_text(encoding="utf-8"))
    return Candidate(metadata, evidence(metrics, table), facts["protocol"], facts["evaluation_set_sha256"])


def judge(registry: Registry, version: Version, candidate: Candidate, gate: Gate, plan: Plan) -> Decision:
    """The gate's answer. A champion that was measured otherwise is measured again, on the present set."""
    champion = registry.by_alias("champion")
    if champion is None:
        return decide(candidate.evidence, None, gate)
    known = registry.evidence(champion)
    if known is not None and known["protocol"] == candidate.protocol:
        rival = Evidence(known["cells"], known["tasks"])
        return decide(candidate.evidence, rival, gate)
    folder = registry.folder(champion)
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    usual = {"latents": "quadrant"}  # of files that do not say it
    ours, theirs = usual | candidate.metadata, usual | metadata
    odd = [name for name in SAME_MODEL if theirs.get(name) != ours.get(name)]
    if odd:
        return Decision(
            False,
            [
                f"the champion, version {champion.number}, differs in {', '.join(odd)} and cannot be measured on this "
                f"evaluation set; compare by hand, and promote with `lorweb registry promote {version.number}`"
            ],
        )
    return decide(candidate.evidence, measure_again(plan, folder), gate)


def measure_again(plan: Plan, folder: Path) -> Evidence:
    """Evidence of another model on the present evaluation set; finished rows are kept in .work/promote."""
    weights = folder / "basis.safetensors"
    other = replace(
        plan,
        cfg=plan.cfg.model_copy(update={"models": ("lorweb",)}),
        sources=replace(plan.sources, weights={CANDIDATE: folder.resolve()}),
        weights={CANDIDATE: file_sha256(weights)},
        work="promote",
    )
    answers = WORK / "promote" / "champion"
    shutil.rmtree(answers, ignore_errors=True)
    answers.mkdir(parents=True)
    measured = draw_and_measure(other, answers)
    metrics = summarise(rows_of(measured), plan.cfg.bootstrap, plan.seed)
    return evidence(metrics, per_task(measured))


def promote(registry: Registry, candidate: Candidate, gate: Gate, plan: Plan) -> dict[str, Any]:
    """Register the candidate, judge it, move the aliases on a pass; returns the record of `models/promoted.json`."""
    registry.recover()
    tags = lineage(Path(), candidate.metadata)
    submission = Submission(CANDIDATE_FOLDER, flat_metrics(candidate.evidence), tags)
    version = registry.submit(submission)
    decision, reasons = decide_on(registry, version, candidate, gate, plan)
    if decision != "unchanged":
        record(registry, version, candidate, decision, reasons, gate)
    champion, previous = registry.by_alias("champion"), registry.by_alias("previous")
    return {
        "decision": decision,
        "reasons": reasons,
        "model": registry.name,
        "version": version.number,
        "champion": champion.number if champion else None,
        "previous": previous.number if previous else None,
        "metrics": {cell: models.get("lorweb", {}) for cell, models in candidate.evidence.cells.items()},
        "evaluation_set_sha256": candidate.set_sha256,
        "lineage": {**tags, "mlflow_run_id": version.run_id, "content_sha256": version.content},
    }


def decide_on(
    registry: Registry, version: Version, candidate: Candidate, gate: Gate, plan: Plan
) -> tuple[str, list[str]]:
    """(promoted, refused or unchanged; reasons)."""
    if "champion" in version.aliases:
        known = registry.evidence(version) or {}
        same = (
            f"version {version.number} is the champion already; the candidate has the same bytes. It was promoted with:"
        )
        return "unchanged", [same, *known.get("reasons", [])]
    if ROLLED_BACK in version.tags:
        hint = f"`lorweb registry promote {version.number}` brings it back"
        return "refused", [f"version {version.number} was rolled back by hand and is not promoted by itself; {hint}"]
    found = judge(registry, version, candidate, gate, plan)
    return ("promoted" if found.promoted else "refused"), found.reasons


def record(
    registry: Registry, version: Version, candidate: Candidate, decision: str, reasons: list[str], gate: Gate
) -> None:
    """Keep the decision as a run, then move the aliases if it is a pass. An equal refusal is not recorded again."""
    proof = {"cells": candidate.evidence.cells, "tasks": candidate.evidence.tasks, "protocol": candidate.protocol}
    key = stable_id(decision, json.dumps([reasons, gate.model_dump(mode="json"), proof], sort_keys=True))
    if decision == "refused" and version.tags.get(DECIDED) == key:
        return
    facts = {**proof, "decision": decision, "reasons": reasons}
    run = registry.record_evidence(version, f"promote: {decision}", facts, {"decision": decision})
    if decision == "promoted":
        registry.promote(version, run)
    registry.tag(version, DECIDED, key)


def flat_metrics(found: Evidence) -> dict[str, float]:
    """Means as MLflow metrics, `<cell>/<model>/<metric>`."""
    return {
        f"{cell}/{model}/{metric}": float(value["mean"])
        for cell, models in found.cells.items()
        for model, metrics in models.items()
        for metric, value in metrics.items()
    }


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    with stage("promote") as metrics:
        from mlflow.exceptions import MlflowException

        cfg = params.promote
        plan = replace(
            make_plan(params.evaluate, params.seed, params.encode.base, params.encode.quadrant), execute=execute
        )
        candidate = read_candidate()
        try:
            found = promote(Registry(cfg.model, create=True), candidate, cfg.gate, plan)
        except MlflowException as error:
            first = str(error).strip().splitlines()[0]
            raise StageFailed(
                f"the model registry refused: {first}; see MLFLOW_TRACKING_URI, then run it again"
            ) from error
        write_text(OUT, json.dumps(found, indent=1, sort_keys=True) + "\n")
        metrics.update(decision=found["decision"], version=found["version"])
    print_summary(Path())


if __name__ == "__main__":
    main()
