"""One call of `loop.train`: what it works with, when it stops, and how a checkpoint of it comes to lie on the disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lorweb.training import reduce, state
from lorweb.training.depot import Depot
from lorweb.training.pieces import merged
from lorweb.training.step import Run
from lorweb.training.stopping import published_step
from lorweb.training.tensors import moments, pack, unpack
from lorweb.training.validation import ValidationSet
from lorweb.training.writer import Retention, Writer

if TYPE_CHECKING:
    from lorweb.training.loop import History, Hooks


class Stopped(Exception):
    """Training was told to stop, on every rank: `step` steps are done and lie in a checkpoint (0: there is none)."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class Told(Exception):
    """Some rank was told to stop."""


@dataclass(frozen=True)
class Keeper:
    """Where checkpoints lie and what they must agree with."""

    folder: Path
    identity: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON values for every checkpoint, as the MLflow run
    depot: Depot | None = None  # where nodes share nothing else: there lie those that count, and the folder is a node's

    def newest(self) -> tuple[int, list[state.Damaged]]:
        """Step of the newest whole checkpoint (0: none), which is in the folder now, and those that were skipped.

        Raises:
            OSError: the depot cannot be read.
        """
        if self.depot is None:
            path, damaged = state.newest_whole(self.folder)
            return (state.step_of(path.name) or 0) if path else 0, damaged
        damaged = []
        for step in reversed(self.depot.steps()):
            try:
                self.depot.state(step)  # sizes first: tensors may be many gigabytes
                self.depot.fetch(step, self.folder)
                return step, damaged
            except FileNotFoundError:
                continue  # somebody died while putting it there
            except ValueError as error:
                damaged.append(state.Damaged(self.depot.where(step), str(error)))
        return 0, damaged

    def load(self, step: int) -> state.Snapshot:
        """A checkpoint, fetched if need be.

        Raises:
            FileNotFoundError: the depot has none.
            ValueError: see `load_checkpoint`.
            OSError: the depot cannot be read.
        """
        path = state.checkpoint_path(self.folder, step) if self.depot is None else self.depot.fetch(step, self.folder)
        return state.load_checkpoint(path, self.identity)


def never() -> bool:
    """Nothing asks the training to stop."""
    return False


@dataclass
class Course:
    """What one call of `train` works with."""

    run: Run
    held_out: Sequence[ValidationSet]
    keeper: Keeper
    hooks: "Hooks"
    stop: Callable[[], bool]
    writer: Writer
    saved: int  # step of the newest checkpoint, 0: there is none

    def heed(self) -> None:
        """Raise Told on every rank if any was told to stop."""
        if reduce.any_(self.stop(), self.run.device):
            raise Told

    def save(self, history: "History") -> None:
        """Have rank 0 write a checkpoint; all ranks call it together, as each may keep a share of the state.

        Raises:
            OSError: see `Writer.save`.
        """
        config, run = self.run.config, self.run
        first = reduce.world()[0] == 0
        gathered = None
        if not run.shards.whole:
            gathered = merged(reduce.to_first(moments(run.shards.mine, run.optimizer), run.device), run.shards.pieces)
        if first:
            best = history.best(config.keep_best) if config.keep_best else None
            self.writer.save(self._snapshot(history, gathered), Retention(config.keep_checkpoints, best))
        self.saved = history.step

    def _snapshot(self, history: "History", gathered: Mapping[str, Tensor] | None) -> state.Snapshot:
        tensors = pack(self.run.variant.parameters, self.run.optimizer, self.run.ema, gathered)
        curves = {f"history/{name}": torch.tensor(rows, dtype=torch.float64) for name, rows in history.curves.items()}
        measured = {"validation": list(history.validation), "health": list(history.health)}
        facts = {**self.keeper.facts, **measured, **({"resumed": history.resumed} if history.resumed else {})}
        return state.Snapshot(history.step, self.keeper.identity, tensors | curves, facts)


def check_best(run: Run, held_out: Sequence[ValidationSet]) -> None:
    """Raises ValueError if the split that is to choose the best checkpoint has no analogies."""
    split, splits = run.config.keep_best, [chosen.split for chosen in held_out]
    if split and split not in splits:
        raise ValueError(
            f"train.keep_best is {split}, but the splits with validation analogies are {', '.join(splits) or 'none'}; "
            "take one of them, or null to keep the newest checkpoints alone"
        )


def restore_published(run: Run, keeper: Keeper, history: "History") -> int:
    """After training, fill the variant with the weights of the step that is published; returns the step.

    Raises:
        ValueError: its checkpoint is gone or damaged.
    """
    step = published_step(history.validation, history.step, run.config)
    if step == history.step:
        return step
    try:
        snapshot = keeper.load(step)
    except (ValueError, FileNotFoundError) as error:
        where = keeper.folder if keeper.depot is None else keeper.depot.where(step).rpartition("/")[0]
        raise ValueError(
            f"step {step} was the best by validation, but its checkpoint cannot be published ({error}); set "
            f"train.publish to last and go on with --allow-mismatch, or delete {where} to train again"
        ) from error
    unpack(snapshot.tensors, run.variant.parameters, run.optimizer, run.ema, run.shards.mine)
    return step
