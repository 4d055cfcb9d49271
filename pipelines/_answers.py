"""b' of every test analogy by every model, and its metrics: rows for the engine, shared by evaluate and promote."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lorweb.config import Evaluate
from lorweb.data.manifest import file_sha256
from lorweb.data.scores import safety_revision
from lorweb.data.shards import read_index, read_table, write_shards
from lorweb.evaluation.models import BASELINES, CANDIDATE, Settings, exemplar_for, weights_of
from lorweb.evaluation.results import Measured, group_scores
from lorweb.evaluation.workers import (
    ANSWER,
    DRAW_VERSION,
    MEASURE_VERSION,
    SCORED,
    DrawAnswers,
    MeasureAnswers,
    Sources,
)
from lorweb.records import ANALOGY, PAIR, load_scores
from lorweb.training.baseline import weights_file
from pipelines._rows import Execute, Item, RowJob, run_rows
from pipelines._stage import seed_of

ENCODED, PAIRS, ANALOGIES = (Path("data") / name for name in ("encoded", "pairs", "analogies"))
WEIGHTS: Final = {
    CANDIDATE: Path("models/candidate") / weights_file(CANDIDATE),
    **{name: Path("models/baselines") / name / weights_file(name) for name in BASELINES},
}


@dataclass(frozen=True)
class Plan:
    """What is evaluated, on what, and how."""

    cfg: Evaluate
    seed: int
    sources: Sources
    settings: Settings
    weights: Mapping[str, str]  # sha256 of the weights of CANDIDATE and baselines
    analogies: Sequence[Mapping[str, Any]]
    pairs: Mapping[str, Mapping[str, Any]]  # index of data/pairs with digests
    work: str = "evaluate"  # folder below .work that keeps finished rows
    execute: Execute | None = None  # None: on Ray

    @property
    def set_sha256(self) -> str:
        """The evaluation set: ids of the analogies and bytes of their four images."""
        digest = hashlib.sha256()
        for analogy in self.analogies:
            exemplar, query = self.pairs[analogy["exemplar"]], self.pairs[analogy["query"]]
            images = [pair[f"{side}_sha256"] for pair in (exemplar, query) for side in ("before", "after")]
            digest.update(f"{analogy['id']} {' '.join(images)}\n".encode())
        return digest.hexdigest()

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything besides the set that two results must share to be compared."""
        rest = self.cfg.model_dump(mode="json", include={"num_inference_steps", "guidance_scale", "prompt"})
        return {
            **rest,
            "seed": self.seed,
            "quadrant": self.sources.quadrant,
            "metrics": MEASURE_VERSION,
            "set": self.set_sha256,
        }


def make_plan(cfg: Evaluate, seed: int, base: str, quadrant: int) -> Plan:
    """The test analogies of data/analogies and the weights in models/.

    Raises:
        FileNotFoundError: a stage before this one has not run, or weights of an evaluated model are missing.
        ValueError: there is no test analogy.
    """
    analogies = sorted(
        (row for row in read_table(ANALOGIES, ANALOGY).to_pylist() if row["split"] == "test"),
        key=lambda row: str(row["id"]),
    )
    if not analogies:
        raise ValueError("data/analogies has no test analogy; raise assemble.test_per_task or assemble.test_subjects")
    used = {row[name] for row in analogies for name in ("exemplar", "query")}
    index = read_index(PAIRS, PAIR, ["id", "category"], digests=["before", "after"])
    needed = {weights for name in cfg.models if (weights := weights_of(name)) is not None}
    for name in sorted(needed):
        if not WEIGHTS[name].is_file():
            raise FileNotFoundError(
                f"no weights at {WEIGHTS[name]}; run the train stage{_with(name)}, or leave its models out of "
                "evaluate.models"
            )
    sources = Sources(
        ENCODED.resolve(), PAIRS.resolve(), {name: WEIGHTS[name].parent.resolve() for name in needed}, quadrant
    )
    return Plan(
        cfg,
        seed,
        sources,
        Settings(base, cfg.num_inference_steps, cfg.guidance_scale, cfg.prompt, "cuda" if cfg.pool.gpus else "cpu"),
        {name: file_sha256(WEIGHTS[name]) for name in needed},
        analogies,
        {row["id"]: row for row in index if row["id"] in used},
    )


def _with(name: str) -> str:
    return "" if name == CANDIDATE else f" with {name} in train.baselines"


def draw_items(plan: Plan) -> list[Item]:
    """One item per (model, analogy); `weights` makes a retrained model other work and leaves the rest finished."""
    return [
        {
            "id": f"{name}:{analogy['id']}",
            "analogy": analogy["id"],
            "model": name,
            "exemplar": exemplar_for(name, analogy, plan.analogies),
            "query": analogy["query"],
            "instruction": analogy["instruction"],
            "seed": seed_of("evaluate", plan.seed, analogy["id"]),
            "weights": plan.weights.get(weights_of(name) or "", ""),
            "at": plan.pairs[analogy["query"]]["at"],
        }
        for name in plan.cfg.models
        for analogy in plan.analogies
    ]


def measure_items(plan: Plan, answers: Sequence[Mapping[str, Any]]) -> list[Item]:
    """One item per analogy, with the answers of all models."""
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for answer in answers:
        found[answer["analogy"]][answer["model"]] = answer
    items = []
    for analogy in plan.analogies:
        pairs = [plan.pairs[analogy[name]] for name in ("exemplar", "query")]
        mine = found[analogy["id"]]
        truth = [pair[f"{side}_sha256"] for pair in pairs for side in ("before", "after")]
        at = {
            "exemplar": pairs[0]["at"],
            "query": pairs[1]["at"],
            "answers": {name: row["at"] for name, row in mine.items()},
        }
        images = [truth, {name: row["image_sha256"] for name, row in mine.items()}]
        items.append({"id": analogy["id"], "images": images, "at": at})
    return items


def draw_and_measure(plan: Plan, folder: Path) -> list[Measured]:
    """Fill `folder` with answers and scores, redoing nothing that is finished."""
    draw = RowJob(
        stage=plan.work,
        function="draw",
        worker=DrawAnswers,
        arguments=(plan.sources, plan.settings),
        identity=(
            DRAW_VERSION,
            plan.settings,
            plan.sources.quadrant,
            file_sha256(plan.sources.encoded / "_manifest.json"),
        ),
        schema=ANSWER,
        pool=plan.cfg.pool,
        max_error_rate=0.0,  # a model is judged on all analogies or on none
    )
    write_shards(run_rows(draw, draw_items(plan), plan.execute).tables(), folder, ANSWER)
    measure = replace(
        draw,
        function="measure",
        worker=MeasureAnswers,
        arguments=(plan.sources, folder.resolve()),
        identity=(MEASURE_VERSION, safety_revision(), plan.sources.quadrant),
        schema=SCORED,
    )
    answers = read_index(folder, ANSWER, ["analogy", "model"], digests=["image"])
    results = run_rows(measure, measure_items(plan, answers), plan.execute)
    write_shards(results.tables(), folder / "scores", SCORED)
    scores = {row["id"]: load_scores(row["scores"]) for row in results.index(["id", "scores"])}
    return [_measured(plan, analogy, scores[analogy["id"]]) for analogy in plan.analogies]


def measured_before(plan: Plan, folder: Path) -> list[Measured]:
    """What `draw_and_measure` has left in `folder`; nothing if it was never there, or is of other analogies."""
    if not (folder / "scores").is_dir():
        return []
    scores = {row["id"]: load_scores(row["scores"]) for row in read_index(folder / "scores", SCORED, ["id", "scores"])}
    if set(scores) != {analogy["id"] for analogy in plan.analogies}:
        return []
    return [_measured(plan, analogy, scores[analogy["id"]]) for analogy in plan.analogies]


def _measured(plan: Plan, analogy: Mapping[str, Any], scores: Mapping[str, float]) -> Measured:
    facts = {name: analogy[name] for name in ("task", "edit_type", "holdout", "subject_seen")}
    category = plan.pairs[analogy["query"]]["category"]
    return Measured(analogy=analogy["id"], category=category, scores=group_scores(scores), **facts)
