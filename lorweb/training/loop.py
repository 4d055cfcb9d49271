"""The training loop: steps, validation, checkpoints, and going on from the newest whole checkpoint.

Plain torch: under Ray Train the same function runs in every worker, without it in this process.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from lorweb.training import reduce, state
from lorweb.training.course import Course, Keeper, Stopped, Told, check_best, never
from lorweb.training.health import bounds_of, first_alarms, router_health
from lorweb.training.step import Run, StepResult, take_step
from lorweb.training.stopping import best_step, check_stop, is_over
from lorweb.training.tensors import unpack
from lorweb.training.validation import ValidationSet, all_of, validate
from lorweb.training.writer import Writer

__all__ = ["CURVES", "PARTS", "History", "Hooks", "Keeper", "Stopped", "train"]
PARTS: Final = ("basis_gradient_norm", "key_gradient_norm", "projection_gradient_norm")
CURVES: Final = ("loss", "gradient_norm", "router_gradient_norm", "learning_rate", *PARTS)


@dataclass
class History:
    """What a run has measured; it travels in the checkpoints, so that a resumed run has all of it exactly once."""

    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})  # entry i: step i + 1
    validation: list[dict[str, Any]] = field(default_factory=list)  # {"step", "split", "loss"}
    health: list[dict[str, Any]] = field(default_factory=list)  # {"step", ...router_health}
    resumed: list[dict[str, Any]] = field(default_factory=list)  # {"step", "differences", ...}: under other settings

    @classmethod
    def of(cls, snapshot: state.Snapshot) -> "History":
        """The history in a checkpoint."""
        curves = {name: snapshot.tensors[f"history/{name}"].tolist() for name in CURVES}
        facts = snapshot.facts
        return cls(curves, list(facts["validation"]), list(facts["health"]), list(facts.get("resumed", [])))

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.curves["loss"])

    def last(self, split: str) -> float | None:
        """The newest validation loss of a split, None before the first or for a split without analogies."""
        found = [row["loss"] for row in self.validation if row["split"] == split]
        return found[-1] if found else None

    def best(self, split: str) -> int | None:
        """The step after which the validation loss of a split was lowest, the earliest of equals; the start aside."""
        return best_step(self.validation, split)

    @property
    def measured(self) -> bool:
        """Whether validation of this step is in."""
        return any(row["step"] == self.step for row in (*self.validation, *self.health))


class Hooks(Protocol):
    """What the caller wants to know; rank 0 calls, and of `measured` every rank."""

    def stepped(self, step: int, result: StepResult) -> None:
        """`step` steps are done."""
        ...

    def measured(self, history: History) -> None:
        """Validation losses of `history.step` are in."""
        ...

    def saved(self, history: History) -> None:
        """A checkpoint lies where it is kept, and everything in `history` with it."""
        ...


def train(
    run: Run, held_out: Sequence[ValidationSet], keeper: Keeper, hooks: Hooks, stop: Callable[[], bool] = never
) -> History:
    """Train to `run.config.steps` or until `config.stop` ends it, from the newest whole checkpoint if there is one.

    `stop` is asked on every rank before every step and between validation sets; where one rank says yes, all stop.

    Raises:
        Stopped: after the step at hand, with a checkpoint of it; the next call goes on bit for bit.
        ValueError: more workers than rows in a batch, no analogies of a split that `config` looks at, or the checkpoint
            belongs to another config or data.
        NonFiniteError: see `take_step`; the last checkpoint is whole.
        OSError: a checkpoint could not be written.
    """
    workers = reduce.world()[1]
    if workers * run.config.accumulate > run.config.batch_size:
        raise ValueError(
            f"{workers} workers for a batch of {run.config.batch_size}, and accumulate {run.config.accumulate}; every "
            "micro-batch of every worker needs an analogy: use fewer, or larger batches"
        )
    check_best(run, held_out)
    check_stop(run.config, held_out)
    reduce.copy_from_first(run.variant.parameters.values())
    reduce.copy_from_first(run.ema.values.values() if run.ema else ())
    history = _resume(run, keeper)
    with Writer(keeper.folder, run.config.async_checkpoints, keeper.depot) as writer:
        course = Course(run, held_out, keeper, hooks, stop, writer, saved=history.step)
        try:
            _advance(course, history)
        except Told:
            if history.step != course.saved:
                course.save(history)
            _landed(course, wait=True)
            raise Stopped(history.step) from None
        _landed(course, wait=True)
    return history


def _advance(course: Course, history: History) -> None:
    """From where `history` stands to the last step, or to where early stopping ends it."""
    config, first = course.run.config, reduce.world()[0] == 0
    left = course.held_out and _due(history.step, config.validate_every, config.steps)  # when training was stopped
    if not history.measured and (left or not history.step):
        _measure(course, history)
        if history.step:
            with course.run.averaged():
                course.hooks.measured(history)
            course.save(history)
    while history.step < config.steps and not is_over(history.validation, config):
        course.heed()
        result = take_step(course.run, history.step)
        for name in CURVES:
            history.curves[name].append(getattr(result, name))
        if first:
            course.hooks.stepped(history.step, result)
        best = False
        if _due(history.step, config.validate_every, config.steps):
            _measure(course, history)
            best = config.keep_best is not None and history.best(config.keep_best) == history.step
            with course.run.averaged():
                course.hooks.measured(history)
        over = is_over(history.validation, config)
        if best or over or _due(history.step, config.checkpoint_every, config.steps):
            course.save(history)
        _landed(course, wait=False)


def _landed(course: Course, wait: bool) -> None:
    """Tell the hooks which checkpoints have come to lie where they are kept."""
    if wait:
        course.writer.wait()
    for snapshot in course.writer.written():
        course.hooks.saved(History.of(snapshot))


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _measure(course: Course, history: History) -> None:
    """Validation losses with the true exemplar and every ablation, and the router's health over all; all or nothing."""
    losses, run = [], course.run
    with run.averaged():
        for chosen in course.held_out:
            for version in chosen.ablated(run.config.ablations):
                course.heed()
                losses.append({"step": history.step, "split": version.split, "loss": validate(run, version)})
        health = router_health(run, all_of(course.held_out))
    history.validation += losses
    if health:
        history.health.append({"step": history.step, **health})
    _warn(course.run, history)


def _warn(run: Run, history: History) -> None:
    """Say each alarm once, after the step of its first validation."""
    for alarm in first_alarms(history.health, bounds_of(run.config, run.variant.name)):
        if alarm.step == history.step and reduce.world()[0] == 0:
            warnings.warn(f"{run.variant.name}: {alarm.sentence}", stacklevel=2)


def _resume(run: Run, keeper: Keeper) -> History:
    """Fill weights and moments from the newest whole checkpoint; rank 0 decides which, all ranks read it."""
    rank, _ = reduce.world()
    found, damaged = keeper.newest() if rank == 0 else (0, [])
    for bad in damaged:
        warnings.warn(f"skipped the damaged checkpoint {bad.path}: {bad.reason}", stacklevel=2)
    step = reduce.from_first(found, run.device)
    if rank == 0:
        state.clear_leftovers(keeper.folder)
    if not step:
        return History()
    snapshot = keeper.load(step)
    unpack(snapshot.tensors, run.variant.parameters, run.optimizer, run.ema, run.shards.mine)
    return History.of(snapshot)
