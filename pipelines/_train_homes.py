"""Where checkpoints of a variant lie, of whichever training: in a folder, or in the store that nodes share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorweb.training.depot import Depot
from lorweb.training.state import (
    Damaged,
    Snapshot,
    adopt_checkpoint,
    checkpoint_path,
    newest_whole,
    read_state,
    step_of,
)
from pipelines._train_depot import depot_of, is_finished, last_trained
from pipelines._train_plan import WEIGHTS, TrainPlan, depot_key, variant_folder


@dataclass(frozen=True)
class Home:
    """The checkpoints of one variant. Every method that reads a store may raise StorageError."""

    at: Path | Depot

    def __str__(self) -> str:
        return str(self.at) if isinstance(self.at, Path) else f"{self.at.store.uri.rstrip('/')}/{self.at.prefix}"

    def where(self, step: int) -> str:
        """How a message calls one."""
        return str(checkpoint_path(self.at, step)) if isinstance(self.at, Path) else self.at.where(step)

    def newest(self) -> tuple[int | None, list[Damaged]]:
        """Step of the newest whole one, and those newer that are damaged."""
        if isinstance(self.at, Depot):
            return self.at.newest()
        path, damaged = newest_whole(self.at)
        return step_of(path.name) if path else None, damaged

    def state(self, step: int) -> Snapshot:
        """One without its tensors. Raises ValueError: it is damaged, or not there."""
        if isinstance(self.at, Path):
            return read_state(checkpoint_path(self.at, step))
        try:
            return self.at.state(step)
        except FileNotFoundError as error:
            raise ValueError(str(error)) from error

    def adopt(self, source: "Home", step: int, identity: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        """Go on from another's checkpoint. Raises ValueError: it is damaged, or not there."""
        source.state(step)
        if isinstance(self.at, Path):
            assert isinstance(source.at, Path), "a store is only read by trainings that have it"
            adopt_checkpoint(checkpoint_path(source.at, step), self.at, identity, facts)
        else:
            found = source.at if isinstance(source.at, Depot) else checkpoint_path(source.at, step)
            self.at.adopt(found, step, identity, facts)


def own_home(plan: TrainPlan, name: str) -> Home:
    """Of a variant of the plan."""
    return Home(depot_of(plan, name) or variant_folder(plan, name))


def home_in(plan: TrainPlan, training: Path, name: str) -> Home:
    """Of a variant of another training, named by its folder: in the store, unless only the folder has any."""
    depot = depot_of(plan, name, training.name)
    return Home(depot) if depot and (depot.steps() or not (training / name).is_dir()) else Home(training / name)


def other_training(plan: TrainPlan) -> Path | None:
    """The folder beside the plan's own that was trained in last and has a checkpoint; in a store, what names it."""
    own = Path(plan.work)
    if plan.store is not None:
        last = last_trained(plan.store, besides=own.name)
        return own.parent / last if last else None
    found = [path for path in own.parent.glob("*/*/step-*") if path.parents[1] != own]
    return max(found, key=lambda path: path.stat().st_mtime).parents[1] if found else None


def all_finished(plan: TrainPlan, training: Path) -> bool:
    """Whether another training has come to the end of all variants of the plan."""
    if plan.store is not None:
        return all(is_finished(plan, name, training.name) for name in plan.variants)
    return all((training / name / WEIGHTS).is_dir() for name in plan.variants)


def said_beside(plan: TrainPlan, name: str) -> str | None:
    """A small file beside the variants; None if there is none."""
    if plan.store is not None:
        try:
            return plan.store.read(depot_key(plan, name)).decode()
        except FileNotFoundError:
            return None
    path = Path(plan.work) / name
    return path.read_text(encoding="utf-8") if path.is_file() else None
