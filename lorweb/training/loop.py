"""The training loop: steps, validation, checkpoints, and going on from the newest whole checkpoint.

Plain torch: under Ray Train the same function runs in every worker, without it in this process.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import torch

from lorweb.training import reduce, state
from lorweb.training.health import router_health
from lorweb.training.step import Run, StepResult, take_step
from lorweb.training.tensors import pack, unpack
from lorweb.training.validation import ValidationSet, all_of, validate

CURVES: Final = ("loss", "gradient_norm", "router_gradient_norm", "learning_rate")


@dataclass
class History:
    """What a run has measured; it travels in the checkpoints, so that a resumed run has all of it exactly once."""

    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})  # entry i: step i + 1
    validation: list[dict[str, Any]] = field(default_factory=list)  # {"step", "split", "loss"}
    health: list[dict[str, Any]] = field(default_factory=list)  # {"step", ...router_health}

    @classmethod
    def of(cls, snapshot: state.Snapshot) -> "History":
        """The history in a checkpoint."""
        curves = {name: snapshot.tensors[f"history/{name}"].tolist() for name in CURVES}
        return cls(curves, list(snapshot.facts["validation"]), list(snapshot.facts["health"]))

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.curves["loss"])

    def last(self, split: str) -> float | None:
        """The newest validation loss of a split, None before the first or for a split without analogies."""
        found = [row["loss"] for row in self.validation if row["split"] == split]
        return found[-1] if found else None


class Hooks(Protocol):
    """What the caller wants to know; only rank 0 calls."""

    def stepped(self, step: int, result: StepResult) -> None:
        """`step` steps are done."""
        ...

    def measured(self, history: History) -> None:
        """Validation losses of `history.step` are in."""
        ...

    def saved(self, history: History) -> None:
        """A checkpoint is on disk, and everything in `history` with it."""
        ...


@dataclass(frozen=True)
class Keeper:
    """Where checkpoints lie and what they must agree with."""

    folder: Path
    identity: Mapping[str, str]


def train(run: Run, held_out: Sequence[ValidationSet], keeper: Keeper, hooks: Hooks) -> History:
    """Train to `run.config.steps`, from the newest whole checkpoint if there is one.

    Raises:
        ValueError: more workers than rows in a batch, or the checkpoint belongs to another config or data.
        NonFiniteError: see `take_step`; the last checkpoint is whole.
        OSError: a checkpoint could not be written.
    """
    rank, workers = reduce.world()
    if workers * run.config.accumulate > run.config.batch_size:
        raise ValueError(
            f"{workers} workers for a batch of {run.config.batch_size}, and accumulate {run.config.accumulate}; every "
            "micro-batch of every worker needs an analogy: use fewer, or larger batches"
        )
    reduce.copy_from_first(run.variant.parameters.values())
    reduce.copy_from_first(run.ema.values.values() if run.ema else ())
    history = _resume(run, keeper)
    if not history.step and not history.validation:
        _measure(run, held_out, history)
    for step in range(history.step, run.config.steps):
        result = take_step(run, step)
        for name in CURVES:
            history.curves[name].append(getattr(result, name))
        if rank == 0:
            hooks.stepped(history.step, result)
        if _due(history.step, run.config.validate_every, run.config.steps):
            _measure(run, held_out, history)
            if rank == 0:
                with run.averaged():
                    hooks.measured(history)
        if rank == 0 and _due(history.step, run.config.checkpoint_every, run.config.steps):
            state.save_checkpoint(keeper.folder, _snapshot(run, keeper, history), run.config.keep_checkpoints)
            hooks.saved(history)
    return history


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _measure(run: Run, held_out: Sequence[ValidationSet], history: History) -> None:
    """Validation losses with true and shuffled exemplars, and the router's health over all of them."""
    with run.averaged():
        for chosen in held_out:
            for version in (chosen, chosen.shuffled):
                loss = validate(run, version)
                history.validation.append({"step": history.step, "split": version.split, "loss": loss})
        health = router_health(run, all_of(held_out))
    if health:
        history.health.append({"step": history.step, **health})


def _snapshot(run: Run, keeper: Keeper, history: History) -> state.Snapshot:
    curves = {f"history/{name}": torch.tensor(values, dtype=torch.float64) for name, values in history.curves.items()}
    tensors = pack(run.variant.parameters, run.optimizer, run.ema) | curves
    facts = {"validation": history.validation, "health": history.health}
    return state.Snapshot(history.step, keeper.identity, tensors, facts)


def _resume(run: Run, keeper: Keeper) -> History:
    """Fill weights and moments from the newest whole checkpoint; rank 0 decides which, all ranks read it."""
    rank, _ = reduce.world()
    path, damaged = state.newest_whole(keeper.folder) if rank == 0 else (None, [])
    for bad in damaged:
        warnings.warn(f"skipped the damaged checkpoint {bad.path}: {bad.reason}", stacklevel=2)
    step = reduce.from_first(int(path.name.removeprefix("step-")) if path else 0, run.device)
    if rank == 0:
        state.clear_leftovers(keeper.folder)
    if not step:
        return History()
    snapshot = state.load_checkpoint(state.checkpoint_path(keeper.folder, step), keeper.identity)
    unpack(snapshot.tensors, run.variant.parameters, run.optimizer, run.ema)
    return History.of(snapshot)
