"""What the driver of training tells its workers. Light: Ray's controller imports it in a process of its own."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.config import Train
from lorweb.serving.reachable import without_password
from lorweb.storage.store import Store

WEIGHTS: Final = "weights"


@dataclass(frozen=True)
class TrainPlan:
    """Everything a worker needs; plain values.

    Without a store paths are absolute. With one they are relative: to the project's root in the driver, to a mirror of
    it in a worker.
    """

    section: Mapping[str, Any]  # `train` of the parameter file
    seed: int
    base: str
    encoded: str
    analogies: str
    work: str  # .work/train/<fingerprint>; without a store, on a disk that all workers share
    identity: Mapping[str, str]
    tracking: str  # address of MLflow
    run_id: str
    started: str = ""  # names one start of the stage, so that workers of a dead one are not heard
    storage: Mapping[str, Any] | None = None  # fields of the Store, where nodes share nothing else
    inventory: str = ""  # of the files in it that workers read
    base_folder: str = ""  # where these hold the base, if it is a folder; else each node finds it by its name

    @property
    def config(self) -> Train:
        return Train.model_validate(self.section)

    @property
    def variants(self) -> tuple[str, ...]:
        return ("lorweb", *self.config.baselines)

    @property
    def server(self) -> str:
        """The address of MLflow as it may be written down: without a password."""
        return without_password(self.tracking)

    @property
    def store(self) -> Store | None:
        return Store(**self.storage) if self.storage else None


def variant_folder(plan: TrainPlan, name: str) -> Path:
    """Checkpoints, sheets and weights of one variant."""
    return Path(plan.work) / name


def depot_key(plan: TrainPlan, name: str = "") -> str:
    """Where the store keeps them."""
    return "/".join(filter(None, ("work/train", Path(plan.work).name, name)))


def train_worker(told: dict[str, Any]) -> None:
    """The train loop of Ray Train: the fields of a TrainPlan.

    It works in the project root, wherever Ray started it, as paths in parameters are relative to that; with a store,
    in a mirror of it.
    """
    from pipelines._train_worker import train_all

    plan = TrainPlan(**told)
    if plan.store is None:
        os.chdir(Path(plan.work).parents[2])
    train_all(plan)
