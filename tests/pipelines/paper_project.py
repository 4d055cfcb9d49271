"""The paper's profile and its variants at a size that a CPU runs: tiny paths and sizes, few tasks, no GPUs, few actors.

`python -m tests.pipelines.paper_project` trains the present folder without Ray (test_paper_profile.py).
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.profiles import merge, profile_layers
from tests.cluster.whole import clone
from tests.data.scoring import save_clip, save_dino
from tests.kontext_tiny import save_tiny_kontext
from tests.model_tiny import save_tiny_clip

ROOT: Final = Path(__file__).parents[2]
QUANT: Final = Path(sys.prefix) / "quant"  # torchao, out of the way of every other process (setup.sh)
PATIENCE: Final = 500  # s
MODELS: Final = "given/by_others"
PATHS: Final[Mapping[str, str]] = {
    "encode.base": f"{MODELS}/kontext",
    "encode.encoder": f"clip:{MODELS}/clip",
    "generate.editors.1.model": f"{MODELS}/kontext",
    "filter.scorers.2.model": f"{MODELS}/clip_of_scores",
    "filter.scorers.3.model": f"{MODELS}/dino",
}
SIZES: Final[Mapping[str, Any]] = {
    "collect.size": 64,
    "collect.readers.0.crops": 1,
    "collect.readers.1.styles": ["thumbs", "critters"],
    "collect.readers.1.seeds": 6,
    "generate.editors.0.tasks": ["colour/hue-*", "geometry/mirror"],
    "generate.editors.1.tasks": ["weather/fog*"],
    "generate.editors.1.side": 32,
    "generate.editors.1.num_inference_steps": 2,
    "generate.sources_per_task": 10,
    "assemble.test_per_task": 1,
    "assemble.val_per_task": 1,
    "encode.quadrant": 32,
    "train.steps": 4,
    "train.checkpoint_every": 2,
    "train.validate_every": 2,
    "train.validation_analogies": 4,
    "evaluate.num_inference_steps": 2,
    "evaluate.bootstrap": 50,
}
NO_GPU: Final[Mapping[str, Any]] = {  # and one actor in the place of sixteen
    "collect.pool.actors": 1,
    "generate.editors.0.pool.actors": 1,
    "generate.editors.1.pool.gpus": 0,
    "filter.scorers.0.pool.actors": 1,
    "filter.scorers.1.pool.actors": 1,
    "filter.scorers.2.pool.gpus": 0,
    "filter.scorers.3.pool.gpus": 0,
    "encode.pool.gpus": 0,
    "train.gpus_per_worker": 0,
    "evaluate.pool.gpus": 0,
}


def leaves(tree: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in a parameter tree; entries of lists of sections by their number."""
    if isinstance(tree, Mapping):
        found = list(tree.items())
    elif isinstance(tree, list) and tree and all(isinstance(entry, Mapping) for entry in tree):
        found = list(enumerate(tree))
    else:
        yield where, tree
        return
    for key, value in found:
        yield from leaves(value, f"{where}.{key}" if where else str(key))


def profile_tree(name: str) -> dict[str, Any]:
    """The parameters of a profile over the committed default, as plain values of their own."""
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tree: dict[str, Any] = yaml.safe_load(
        yaml.safe_dump(reduce(merge, profile_layers(ROOT / "profiles", name), default))
    )
    return tree


def write_tiny(name: str, folder: Path) -> None:
    """params.yaml of a profile with the values above in the place of its own."""
    tree = profile_tree(name)
    for key, value in {**PATHS, **SIZES, **NO_GPU}.items():
        *parents, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        section = reduce(lambda at, part: at[part], parents, tree)
        assert last in section, key
        section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def save_models(folder: Path) -> None:
    """Random models in the folder formats of those that the profile names."""
    save_tiny_kontext(folder / MODELS / "kontext")
    save_tiny_clip(folder / MODELS / "clip")
    save_clip(folder / MODELS / "clip_of_scores")
    save_dino(folder / MODELS / "dino")


def clone_tiny(folder: Path) -> None:
    """A clone of the project whose parameters are the paper's at a tiny size, its models beside them."""
    clone(folder, "paper")
    save_models(folder)
    write_tiny("paper", folder)


def run_module(name: str, folder: Path) -> None:
    """A module in a process of its own that finds torchao. Fails the test if it fails."""
    path = os.pathsep.join([str(QUANT), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", name]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def train_here() -> None:
    """All variants of the present folder's parameters in this process, published as the stage publishes them."""
    from dataclasses import replace

    from lorweb.config import load_params
    from pipelines._mlflow_run import StageFacts, mlflow_run
    from pipelines._stage import stage
    from pipelines._train_publish import finished_histories, publish, summary
    from pipelines._train_worker import train_one
    from pipelines.train import BASELINES, CANDIDATE, make_plan

    with stage("train") as metrics:
        plan = make_plan(load_params())
        with mlflow_run(StageFacts("train", plan.section, [])) as run:
            plan = replace(plan, run_id=run.run_id)
            for name in plan.variants:
                train_one(plan, name)
        histories = finished_histories(plan)
        publish(plan, histories, CANDIDATE, BASELINES)
        metrics.update(summary(plan, histories))


if __name__ == "__main__":
    train_here()
