"""b' of every held-out analogy by every model, measured against the truth -> data/evaluation and reports/."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lorweb.config import load_params
from lorweb.data.manifest import Manifest, fingerprint, read_manifest, write_manifest
from lorweb.evaluation.measuring import MEASURE_VERSION
from lorweb.evaluation.results import (
    HEADLINE,
    Measured,
    add_seed_std,
    differences,
    other_differences,
    per_task,
    rows_of,
    summarise,
)
from lorweb.evaluation.workers import DRAW_VERSION
from pipelines._answers import ANALOGIES, ENCODED, PAIRS, Plan, draw_and_measure, make_plan
from pipelines._judge import judge_answers
from pipelines._launch import hand_over
from pipelines._metrics import count
from pipelines._report import Inputs, write_reports
from pipelines._rows import Execute
from pipelines._stage import publishing, stage, write_text

OUT: Final = Path("data/evaluation")
REPORTS: Final = Path("reports")
PROOF: Final = REPORTS / "paired.json"


def write_numbers(plan: Plan, measured: Sequence[Measured], verdicts: Mapping[str, Any]) -> dict[str, Any]:
    """reports/metrics.json, judge.json and per_task.csv; returns what the page and paired.json show of them."""
    rows = rows_of(measured)
    metrics = summarise(rows, plan.cfg.bootstrap, plan.seed)
    add_seed_std(metrics, measured)
    for cell, models in verdicts.get("grades", {}).items():
        for model, grades in models.items():
            metrics[cell][model].update(grades)
    paired = differences(rows, HEADLINE, plan.cfg.bootstrap, plan.seed)
    table = per_task(measured)
    write_text(REPORTS / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    others = other_differences(rows, plan.cfg.bootstrap, plan.seed)
    write_text(REPORTS / "judge.json", json.dumps(verdicts, indent=1, sort_keys=True) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["task"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(REPORTS / "per_task.csv", text.getvalue())
    return {"metrics": metrics, "paired": paired, "by_metric": others, "judge": verdicts, "tasks": table}


def write_proof(plan: Plan, shown: Mapping[str, Any]) -> None:
    """reports/paired.json, which says what all of reports/ was made of: so it is written last."""
    facts = {
        "metric": HEADLINE,
        "evaluation_set_sha256": plan.set_sha256,
        "protocol": plan.protocol,
        "weights": dict(plan.weights),
    }
    told = {**facts, "paired": shown["paired"], "by_metric": shown["by_metric"]}
    write_text(PROOF, json.dumps(told, indent=1, sort_keys=True) + "\n")


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    with stage("evaluate") as metrics:
        plan = replace(
            make_plan(params.evaluate, params.seed, params.encode.base, params.encode.quadrant), execute=execute
        )
        mode = read_manifest(ENCODED)["params"].get("query_mode", params.encode.query_mode)
        if mode != params.encode.query_mode:
            raise ValueError(
                f"data/encoded was made with query mode {mode}, the parameters say {params.encode.query_mode}; "
                "run encode again"
            )
        with publishing(OUT, "evaluate") as folder:
            measured = draw_and_measure(plan, folder)
            inputs = {path.name: fingerprint(path) for path in (ENCODED, PAIRS, ANALOGIES)}
            code = {"draw": DRAW_VERSION, "measure": MEASURE_VERSION}
            verdicts = judge_answers(plan, folder, measured)
            total = sum(len(draws) for m in measured for draws in m.draws.values())
            write_manifest(folder, Manifest(total, {**inputs, **plan.weights}, plan.protocol, code))
        PROOF.unlink(missing_ok=True)  # a killed stage leaves reports of two runs; promote takes none without this one
        shown = write_numbers(plan, measured, verdicts)
        write_reports(Inputs(plan, measured, OUT, REPORTS), shown)
        write_proof(plan, shown)
        metrics.update(count(total, total, [], {}), evaluation_set_sha256=plan.set_sha256)
        if verdicts["judge"] is not None:
            metrics.update(judge={name: verdicts[name] for name in ("asked", "valid", "invalid", "unanswered")})


if __name__ == "__main__":
    hand_over("evaluate")
    main()
