"""b' of every analogy of a split by trained models, measured by the functions of the evaluate stage."""

from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lorweb.config import load_params
from lorweb.data.manifest import file_sha256
from lorweb.data.shards import read_index, read_table
from lorweb.evaluation.models import CANDIDATE, weights_of
from lorweb.evaluation.results import Measured
from lorweb.records import ANALOGY, PAIR
from lorweb.training.baseline import weights_file
from pipelines._answers import ANALOGIES, PAIRS, Plan, draw_and_measure, make_plan
from pipelines._rows import in_process


@dataclass(frozen=True)
class Asked:
    """Which models answer which analogies."""

    models: Sequence[str]  # names of lorweb.evaluation.models.MODELS
    split: str  # "val" or "test"
    weights: Mapping[str, Path]  # folders of the weights that they need, by variant; lorweb's are "lorweb"


def answer(folder: Path, asked: Asked) -> list[Measured]:
    """Draw and measure in a setting's folder; what was drawn before, by the same weights, is not drawn again.

    The noise of an analogy comes from its id and the seed in params.yaml: it is the same for every model, setting and
    seed of training.

    Raises:
        ValueError: the split is empty.
    """
    with chdir(folder), TemporaryDirectory(dir=".work") as made:
        return draw_and_measure(plan_of(asked), Path(made).resolve())


def plan_of(asked: Asked) -> Plan:
    """The evaluate stage's plan with other weights, models and analogies; in the setting's folder."""
    params = load_params()
    cfg = params.evaluate.model_copy(update={"models": tuple(asked.models)})
    references = cfg.model_copy(update={"models": ("copy",)})
    plan = make_plan(references, params.seed, params.encode.base, params.encode.quadrant)
    rows = [row for row in read_table(ANALOGIES, ANALOGY).to_pylist() if row["split"] == asked.split]
    if not rows:
        raise ValueError(f"data/analogies has no {asked.split} analogy; raise assemble.{asked.split}_per_task")
    used = {row[name] for row in rows for name in ("exemplar", "query")}
    index = read_index(PAIRS, PAIR, ["id", "category"], digests=["before", "after"])
    needed = {weights for name in asked.models if (weights := weights_of(name)) is not None}
    folders = {name: asked.weights["lorweb" if name == CANDIDATE else name] for name in needed}
    return replace(
        plan,
        cfg=cfg,
        sources=replace(plan.sources, weights=folders),
        weights={name: file_sha256(path / weights_file(name)) for name, path in folders.items()},
        analogies=sorted(rows, key=lambda row: str(row["id"])),
        pairs={row["id"]: row for row in index if row["id"] in used},
        work=f"study-{Path.cwd().name}",
        execute=in_process,
    )
