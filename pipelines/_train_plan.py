"""What the driver of training tells its workers. Light: Ray's controller imports it in a process of its own."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.config import Train

WEIGHTS: Final = "weights"
# What driver and workers tell each other during one start of the stage, in `told_folder`:
REFUSAL: Final = "refusal.json"  # a worker: what a retry cannot change
PROGRESS: Final = "progress.json"  # rank 0: where it stands
NOTES: Final = "notes.jsonl"  # workers: warnings that a person should read
STARTED: Final = "started"  # any worker: there is somebody to listen
STOP: Final = "stop"  # the driver: stop after this step
STOPPED: Final = "stopped.json"  # rank 0: they have


@dataclass(frozen=True)
class TrainPlan:
    """Everything a worker needs; plain values, absolute paths."""

    section: Mapping[str, Any]  # `train` of the parameter file
    seed: int
    base: str
    encoded: str
    analogies: str
    work: str  # .work/train/<fingerprint>, on a disk that all workers share
    identity: Mapping[str, str]
    tracking: str  # address of MLflow
    run_id: str
    started: str = ""  # names one start of the stage, so that workers of a dead one are not heard

    @property
    def config(self) -> Train:
        return Train.model_validate(self.section)

    @property
    def variants(self) -> tuple[str, ...]:
        return ("lorweb", *self.config.baselines)


def variant_folder(plan: TrainPlan, name: str) -> Path:
    """Checkpoints, sheets and weights of one variant."""
    return Path(plan.work) / name


def told_folder(plan: TrainPlan) -> Path:
    """Where driver and workers of one start tell each other things."""
    return Path(plan.work) / f"told-{plan.started}"


def train_worker(told: dict[str, Any]) -> None:
    """The train loop of Ray Train: the fields of a TrainPlan.

    It works in the project root, wherever Ray started it: paths in parameters are relative to that.
    """
    from pipelines._train_worker import train_all

    plan = TrainPlan(**told)
    os.chdir(Path(plan.work).parents[2])
    train_all(plan)
