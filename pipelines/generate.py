"""Sources x tasks through the editors -> data/candidates: pairs (a, a'), and the tasks they were made of."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lorweb.config import load_params
from lorweb.data.catalogue import facts_of
from lorweb.data.checks import Refusal, reject
from lorweb.data.manifest import Manifest, fingerprint, write_manifest
from lorweb.data.shards import read_index, write_rows, write_shards
from lorweb.data.tasks import write_tasks
from lorweb.records import PAIR, REJECT, SOURCE, stable_id
from pipelines._generate_instruct import Drafted, draft_tasks
from pipelines._generate_plan import SOURCE_FACTS, Plan, plan_editors
from pipelines._generate_sheet import write_sheets
from pipelines._generate_worker import EditSources, picked
from pipelines._journal import KEPT_JOURNALS
from pipelines._launch import hand_over
from pipelines._metrics import count
from pipelines._results import Results, merged
from pipelines._rows import Execute, RowJob, run_rows
from pipelines._stage import StageFailed, publishing, stage

VERSION: Final = 1
OUT, SOURCES = Path("data/candidates"), Path("data/sources")


def job_of(plan: Plan, max_error_rate: float) -> RowJob:
    """The row job of one entry; its function is named by what the entry loads, so that its journals are its own."""
    entry = plan.entry.model_dump(
        mode="json", include={"model", "prompt", "loras", "class_", "options"}, by_alias=False
    )
    return RowJob(
        stage="generate",
        function=f"edit_{plan.facts.name}_{stable_id(sorted(entry.items()))[:8]}",
        worker=EditSources,
        arguments=(str(SOURCES), plan.tasks, plan.entry, plan.facts),
        identity=(VERSION, plan.facts.name, plan.facts.revision),
        schema=PAIR,
        pool=plan.entry.pool,
        max_error_rate=max_error_rate,
        picked=picked(plan.entry),
        reads=(str(SOURCES),),
    )


def run_plans(plans: Sequence[Plan], max_error_rate: float, execute: Execute | None) -> list[Results]:
    """Every entry on its own actors, one after another. Raises StageFailed, also where nothing is to do."""
    if not any(plan.asked for plan in plans):
        raise StageFailed("no source fits any task; see metrics/collect.json for what was collected")
    jobs = [job_of(plan, max_error_rate) for plan in plans]
    for function, times in Counter(name for name, _ in {(job.function, job.identity) for job in jobs}).items():
        if times > KEPT_JOURNALS:
            raise StageFailed(
                f"{times} entries of generate.editors differ in numbers alone ({function}), of which the work of "
                f"{KEPT_JOURNALS} is kept; run them one after another"
            )
    return [run_rows(job, plan.items(), execute) for job, plan in zip(jobs, plans, strict=True)]


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    cfg = params.generate
    with stage("generate") as metrics:
        drafted = draft_tasks(cfg, params.seed, execute)
        sources = read_index(SOURCES, SOURCE, SOURCE_FACTS)
        plans = plan_editors(cfg, drafted.tasks, sources, params.seed, SOURCES)
        results = run_plans(plans, cfg.max_error_rate, execute)
        refused = [[reject(Refusal(i, "generate", {}), why) for i, why in plan.refused] for plan in plans]
        rejects = [row for own, early in zip(results, refused, strict=True) for row in [*own.rejects, *early]]
        pairs = merged(results, PAIR)
        recipe = cfg.model_dump(mode="json", exclude={"editors": {"__all__": {"pool"}}, "instructions": {"pool"}})
        with publishing(OUT, "generate") as folder:
            rows = write_shards(pairs.tables(), folder, PAIR)
            write_rows([*rejects, *drafted.rejects], folder / "rejects", REJECT)
            write_tasks(folder, facts_of(task for plan in plans for task in plan.used))
            recipe.pop("max_error_rate")
            inputs = {"sources": fingerprint(SOURCES)}
            write_manifest(folder, Manifest(rows, inputs, {"seed": params.seed, **recipe}, {"edit": VERSION}))
        metrics.update(told(plans, results, drafted), sheets=write_sheets(OUT))
        functions = {
            f"edit_{number}_{plan.facts.name}": own.pace
            for number, (plan, own) in enumerate(zip(plans, results, strict=True))
        }
        asked = sum(plan.asked + len(plan.refused) for plan in plans)
        metrics.update(count(asked, rows, rejects, functions))


def told(plans: Sequence[Plan], results: Sequence[Results], drafted: Drafted) -> dict[str, Any]:
    """What metrics say beside the counts: by type, by editor, and of instructions."""
    counts = (Counter({p.tasks[name].edit_type: number}) for p in plans for name, number in p.counts.items())
    asked: Counter[str] = sum(counts, Counter())
    unused = {name for plan in plans for name in plan.tasks} - {task.id for plan in plans for task in plan.used}
    editors = [
        {
            "editor": plan.facts.name,
            "revision": plan.facts.revision,
            **count(plan.asked, len(own), own.rejects, {"edit": own.pace}),
        }
        for plan, own in zip(plans, results, strict=True)
    ]
    return {
        "asked_by_edit_type": asked,
        "tasks_without_source": sorted(unused),
        "editors": editors,
        "instructions": drafted.metrics,
    }


if __name__ == "__main__":
    hand_over("generate")
    main()
