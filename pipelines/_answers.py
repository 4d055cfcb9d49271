"""b' of every test analogy by every model, and its metrics: rows for the engine, shared by evaluate and promote."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lorweb.config import Evaluate
from lorweb.data.manifest import file_sha256, read_manifest
from lorweb.data.scores import safety_revision
from lorweb.data.shards import read_index, read_table, write_shards
from lorweb.evaluation.backbones import Facts, describe, facts_for_protocol
from lorweb.evaluation.fitting import check_fits, trained_with
from lorweb.evaluation.measuring import MEASURE_VERSION, SCORED, Backbones, MeasureAnswers, answer_scores
from lorweb.evaluation.models import BASELINES, CANDIDATE, OFFICIAL, weights_of
from lorweb.evaluation.official import checked_official
from lorweb.evaluation.painter import Settings
from lorweb.evaluation.results import Measured
from lorweb.evaluation.workers import (
    ANSWER,
    DRAW_VERSION,
    DrawAnswers,
    Sources,
)
from lorweb.records import ANALOGY, PAIR
from lorweb.training.baseline import weights_file
from pipelines._answer_items import by_analogy, draw_items, measure_items
from pipelines._rows import Execute, RowJob, run_rows

ENCODED, PAIRS, ANALOGIES = (Path("data") / name for name in ("encoded", "pairs", "analogies"))
WEIGHTS: Final = {
    CANDIDATE: Path("models/candidate") / weights_file(CANDIDATE),
    **{name: Path("models/baselines") / name / weights_file(name) for name in BASELINES},
}
SET_FACTS: Final = ("id", "task", "edit_type", "holdout", "subject_seen", "instruction")


@dataclass(frozen=True)
class Plan:
    """What is evaluated, on what, and how."""

    cfg: Evaluate
    seed: int
    sources: Sources
    settings: Settings
    weights: Mapping[str, str]  # sha256 of the weights of CANDIDATE, baselines and OFFICIAL
    analogies: Sequence[Mapping[str, Any]]
    pairs: Mapping[str, Mapping[str, Any]]  # index of data/pairs with digests
    backbones: Mapping[str, Facts]
    work: str = "evaluate"  # folder below .work that keeps finished rows
    execute: Execute | None = None  # None: on Ray

    @property
    def set_sha256(self) -> str:
        """The evaluation set: the analogies with all that is asked or reported of them, and bytes of their images."""
        digest = hashlib.sha256()
        for analogy in self.analogies:
            told = [analogy[name] for name in SET_FACTS]
            digest.update(f"{json.dumps(told)} {' '.join(self.images_of(analogy))}\n".encode())
        return digest.hexdigest()

    def images_of(self, analogy: Mapping[str, Any]) -> list[str]:
        """Hashes of a, a', b and the true b'."""
        pairs = (self.pairs[analogy["exemplar"]], self.pairs[analogy["query"]])
        return [pair[f"{side}_sha256"] for pair in pairs for side in ("before", "after")]

    def places_of(self, analogy: Mapping[str, Any]) -> dict[str, Any]:
        """Where its two pairs lie."""
        return {name: self.pairs[analogy[name]]["at"] for name in ("exemplar", "query")}

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything besides the set that two results must share to be compared."""
        rest = self.cfg.model_dump(mode="json", include={"num_inference_steps", "guidance_scale", "prompt", "seeds"})
        return {
            **rest,
            "seed": self.seed,
            "quadrant": self.sources.quadrant,
            "device": self.settings.device,  # on which hangs the dtype
            "draw": DRAW_VERSION,
            "metrics": MEASURE_VERSION,
            "backbones": facts_for_protocol(self.backbones),
            "set": self.set_sha256,
        }


def make_plan(cfg: Evaluate, seed: int, base: str, quadrant: int) -> Plan:
    """The test analogies of data/analogies and the weights in models/.

    Raises:
        FileNotFoundError: a stage before this one has not run, or weights of an evaluated model are missing.
        ValueError: there is no test analogy, or backbones or a published checkpoint that cannot be used, or a
            model was trained with another base, encoder, query mode, quadrant or latents than data/encoded.
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
    folders, hashes = _weights(cfg, needed)
    sources = Sources(ENCODED, PAIRS, folders, quadrant)
    return Plan(
        cfg,
        seed,
        sources,
        Settings(base, cfg.num_inference_steps, cfg.guidance_scale, cfg.prompt, "cuda" if cfg.pool.gpus else "cpu"),
        hashes,
        analogies,
        {row["id"]: row for row in index if row["id"] in used},
        describe(cfg.perceptual, cfg.direction, quadrant),
    )


def _weights(cfg: Evaluate, needed: set[str]) -> tuple[dict[str, Path | str], dict[str, str]]:
    """Folders (of OFFICIAL what the parameters say) and hashes of the weights that are needed."""
    for name in sorted(needed - {OFFICIAL}):
        if not WEIGHTS[name].is_file():
            raise FileNotFoundError(
                f"no weights at {WEIGHTS[name]}; run the train stage{_with(name)}, or leave its models out of "
                "evaluate.models"
            )
    folders: dict[str, Path | str] = {name: WEIGHTS[name].parent for name in needed - {OFFICIAL}}
    hashes = {name: file_sha256(WEIGHTS[name]) for name in folders}
    encoded = read_manifest(ENCODED)["params"] if needed else {}
    for name in sorted(hashes):
        check_fits(str(WEIGHTS[name].parent), trained_with(WEIGHTS[name].parent), str(ENCODED), encoded)
    if OFFICIAL in needed:
        assert cfg.official is not None  # checked with the parameters
        hashes[OFFICIAL] = checked_official(cfg.official, encoded)
        folders[OFFICIAL] = cfg.official
    return folders, hashes


def _with(name: str) -> str:
    return "" if name == CANDIDATE else f" with {name} in train.baselines"


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
        reads=plan.sources.reads(*plan.sources.weights),
    )
    write_shards(run_rows(draw, draw_items(plan), plan.execute).tables(), folder, ANSWER)
    measure = replace(
        draw,
        function="measure",
        worker=MeasureAnswers,
        arguments=(
            plan.sources,
            folder,
            Backbones(plan.cfg.perceptual, plan.cfg.direction, plan.settings.device),
        ),
        identity=(
            MEASURE_VERSION,
            safety_revision(),
            plan.sources.quadrant,
            facts_for_protocol(plan.backbones),
            plan.settings.device,
        ),
        schema=SCORED,
        reads=(str(plan.sources.pairs), str(folder)),
    )
    answers = by_analogy(read_index(folder, ANSWER, ["id", "analogy", "model"], digests=["image"]))
    results = run_rows(measure, measure_items(plan, answers), plan.execute)
    write_shards(results.tables(), folder / "scores", SCORED)
    return _measured(plan, answer_scores(results.index(SCORED.names)))


def measured_before(plan: Plan, folder: Path) -> list[Measured]:
    """What `draw_and_measure` has left in `folder`; nothing if it was never there, or is of other analogies."""
    if not (folder / "scores").is_dir():
        return []
    scores = answer_scores(read_index(folder / "scores", SCORED, SCORED.names))
    return _measured(plan, scores) if set(scores) == {analogy["id"] for analogy in plan.analogies} else []


def _measured(plan: Plan, scores: Mapping[str, Any]) -> list[Measured]:
    return [Measured.of(a, plan.pairs[a["query"]]["category"], scores[a["id"]]) for a in plan.analogies]
