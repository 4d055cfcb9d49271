"""The judge's part of the evaluate stage: its questions as rows for the engine, its verdicts as numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorweb.data.scorers.judge_asking import judge_revision
from lorweb.data.shards import read_index, write_shards
from lorweb.evaluation.entries import AnswerJudge
from lorweb.evaluation.gate import MODEL as OURS
from lorweb.evaluation.judge_prompts import PROMPT_VERSION
from lorweb.evaluation.judge_results import counts, graded, preferences
from lorweb.evaluation.judging import JUDGE_VERSION, JUDGED, JudgeAnswers
from lorweb.evaluation.local_names import base_name
from lorweb.evaluation.results import Measured
from lorweb.evaluation.workers import ANSWER
from pipelines._answer_items import Answers, by_analogy
from pipelines._answers import Plan
from pipelines._results import Results
from pipelines._rows import Item, RowJob, run_rows
from pipelines._stage import StageFailed, TooManyRefused


def judge_answers(plan: Plan, folder: Path, measured: Sequence[Measured]) -> dict[str, Any]:
    """Ask the judge about the answers in `folder`; what reports/judge.json holds. {"judge": None} without a judge.

    Finished questions are not asked again. Those without any reply are: they stop the stage where they are more than
    `max_unanswered` of all, and are counted where they are not.
    """
    cfg = plan.cfg.judge
    if cfg is None:
        return {"judge": None}
    revision = judge_revision(cfg, PROMPT_VERSION)
    job = RowJob(
        stage=plan.work,
        function="judge",
        worker=JudgeAnswers,
        arguments=(plan.sources, folder, cfg),
        identity=(JUDGE_VERSION, revision, plan.sources.quadrant, _device(cfg)),
        schema=JUDGED,
        pool=cfg.pool,
        max_error_rate=cfg.max_unanswered,
        reads=(str(plan.sources.pairs), str(folder)),
    )
    answers = by_analogy(read_index(folder, ANSWER, ["id", "analogy", "model"], digests=["image"]))
    results = _asked(job, judge_items(plan, cfg, answers), plan)
    write_shards(results.tables(), folder / "judged", JUDGED)
    judged = results.index(JUDGED.names)
    return {
        "judge": {
            "model": cfg.model if cfg.endpoint else base_name(cfg.model),
            "endpoint": cfg.endpoint.url if cfg.endpoint else None,
            "revision": revision,
        },
        **counts(judged, len(results.rejects)),
        "grades": graded(judged, measured, plan.cfg.bootstrap, plan.seed),
        "preferences": preferences(judged, measured, cfg.rivals, plan.cfg.bootstrap, plan.seed),
    }


def _device(cfg: AnswerJudge) -> str:
    """What a local judge runs on: another device rounds otherwise. "" where a server runs it."""
    return "" if cfg.endpoint else "cuda" if cfg.pool.gpus else "cpu"


def _asked(job: RowJob, items: list[Item], plan: Plan) -> Results:
    try:
        return run_rows(job, items, plan.execute)
    except TooManyRefused as error:
        raise StageFailed(
            "the judge leaves more questions without a reply than evaluate.judge.max_unanswered = "
            f"{job.max_error_rate} allows; see to it and run the stage again, which asks only these:\n{error.reasons}"
        ) from error


def judge_items(plan: Plan, cfg: AnswerJudge, answers: Answers) -> list[Item]:
    """A question per graded model and analogy; two, one for each order, per rival and analogy."""
    items = []
    for analogy in plan.analogies:
        name, mine = analogy["id"], answers[analogy["id"]]
        items += [_item(plan, analogy, f"grade:{model}:{name}", mine, [model]) for model in cfg.graded]
        for rival in cfg.rivals:
            for order, shown in (("ours_first", [OURS, rival]), ("rival_first", [rival, OURS])):
                items.append(_item(plan, analogy, f"compare:{rival}:{name}:{order}", mine, shown))
    return items


def _item(
    plan: Plan, analogy: Mapping[str, Any], name: str, answers: Mapping[str, Mapping[str, Any]], shown: Sequence[str]
) -> Item:
    seen = [answers[model] for model in shown]
    return {
        "id": name,
        "analogy": analogy["id"],
        "model": name.split(":")[1],
        "shown": list(shown),
        "images": [*plan.images_of(analogy)[:3], *(row["image_sha256"] for row in seen)],
        "at": {**plan.places_of(analogy), "answers": [row["at"] for row in seen]},
    }
