"""Checkpoints of a training run: safetensors and JSON only, written atomically, checked by hash before they are used.

    <folder>/step-00000200/tensors.safetensors    model/<name>, optimizer/<name>/<slot>, history/<name>
                           state.json             step, identity (config and data fingerprints), anything else as JSON
                           manifest.json          {file: {sha256, bytes}}, written last

A folder that is not exactly what its manifest says is named, skipped, and replaced when the run reaches its step again.

There is no state of random number generators in it, of any rank: training uses no global one. Batches, noise, timesteps
and dropped captions are pure functions of (seed, step, slot), whoever computes the slot (`sampler`, `kontext.flow`), so
the step number is the whole position of a run, and the number of workers may change between two starts.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lorweb.training.whole_folder import clear_leftovers, fault, write_whole

__all__ = [
    "Damaged",
    "Snapshot",
    "adopt_checkpoint",
    "checkpoint_path",
    "clear_leftovers",
    "differences",
    "load_checkpoint",
    "newest_whole",
    "read_state",
    "retained",
    "save_checkpoint",
    "state_text",
    "step_of",
]
TENSORS: Final = "tensors.safetensors"
STATE: Final = "state.json"
_PREFIX: Final = "step-"


@dataclass(frozen=True)
class Snapshot:
    """Everything a run needs to go on: `step` steps are done."""

    step: int
    identity: Mapping[str, str]  # what must not change between a run and its resumption
    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON values


@dataclass(frozen=True)
class Damaged:
    """A checkpoint that was skipped, and why."""

    path: Path | str  # str: in a store
    reason: str


def save_checkpoint(folder: Path, snapshot: Snapshot, keep: int, best: int | None = None) -> Path:
    """Write `folder`/step-N in one rename, then delete all but the `keep` newest checkpoints up to step N.

    The one of step `best` stays as well, however old.

    Raises:
        OSError: the disk is full or read-only; nothing is left behind and older checkpoints are untouched.
    """
    target = checkpoint_path(folder, snapshot.step)

    def fill(temporary: Path) -> None:
        save_file(dict(snapshot.tensors), temporary / TENSORS)
        (temporary / STATE).write_text(state_text(snapshot), encoding="utf-8")

    _write(target, fill)
    done = [path for path in _checkpoints(folder) if path <= target]
    kept = retained([step_of(path.name) or 0 for path in done], keep, best)
    for path in done:
        if step_of(path.name) not in kept:
            shutil.rmtree(path, ignore_errors=True)
    return target


def retained(steps: Sequence[int], keep: int, best: int | None) -> set[int]:
    """Which of some checkpoints, oldest first, stay: the `keep` newest, and that of step `best`."""
    return {*steps[-keep:], *(step for step in steps if step == best)}


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"{_PREFIX}{step:08d}"


def step_of(name: str) -> int | None:
    """The step of a checkpoint by the name of its folder; None of any other name, such as that of a copy."""
    step = name.removeprefix(_PREFIX)
    return int(step) if name.startswith(_PREFIX) and step.isdecimal() else None


def newest_whole(folder: Path) -> tuple[Path | None, list[Damaged]]:
    """The newest undamaged checkpoint of a folder, and the newer ones that were skipped with their reasons."""
    damaged: list[Damaged] = []
    for path in reversed(_checkpoints(folder)):
        reason = fault(path, (TENSORS, STATE))
        if reason is None:
            return path, damaged
        damaged.append(Damaged(path, reason))
    return None, damaged


def read_state(path: Path) -> Snapshot:
    """Step, identity and facts of a checkpoint, without its tensors.

    Raises:
        ValueError: it is damaged.
    """
    reason = fault(path, (TENSORS, STATE))
    if reason is not None:
        raise ValueError(f"checkpoint {path} is damaged: {reason}; delete it to go on from the one before")
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    return Snapshot(state["step"], state["identity"], {}, state["facts"])


def load_checkpoint(path: Path, identity: Mapping[str, str]) -> Snapshot:
    """Read a checkpoint that `newest_whole` returned.

    Raises:
        ValueError: it is damaged, or was written under another config or data; every difference is listed.
    """
    state = read_state(path)
    found = differences(state.identity, identity)
    if found:
        raise ValueError(
            f"checkpoint {path} was written by another run: {'; '.join(found)}; "
            "restore these settings, or train in another folder"
        )
    return Snapshot(state.step, state.identity, load_file(path / TENSORS), state.facts)


def adopt_checkpoint(source: Path, folder: Path, identity: Mapping[str, str], facts: Mapping[str, Any]) -> Path:
    """Let the run of `folder` go on from another run's checkpoint: same tensors, its own identity, `facts` added.

    The tensors are linked, not copied, where the file system can.

    Raises:
        ValueError: the source is damaged.
        OSError: as `save_checkpoint`.
    """
    state = read_state(source)
    target = checkpoint_path(folder, state.step)

    def fill(temporary: Path) -> None:
        try:
            os.link(source / TENSORS, temporary / TENSORS)
        except OSError:  # another file system
            shutil.copyfile(source / TENSORS, temporary / TENSORS)
        adopted = Snapshot(state.step, identity, {}, {**state.facts, **facts})
        (temporary / STATE).write_text(state_text(adopted), encoding="utf-8")

    _write(target, fill)
    return target


def differences(stored: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """'NAME was OLD and is NEW' for every entry that two identities do not share."""
    return [
        f"{key} was {stored.get(key, 'absent')} and is {current.get(key, 'absent')}"
        for key in sorted({*stored, *current})
        if stored.get(key) != current.get(key)
    ]


def _write(target: Path, fill: Callable[[Path], None]) -> None:
    try:
        write_whole(target, fill)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"cannot write the checkpoint of step {step_of(target.name)} to {target.parent}: {error}; earlier "
            "checkpoints are whole: free some space or make the folder writable, then run the same command again to go "
            "on from the last one"
        ) from error


def state_text(snapshot: Snapshot) -> str:
    """What `state.json` says of a snapshot."""
    state = {"step": snapshot.step, "identity": dict(snapshot.identity), "facts": dict(snapshot.facts)}
    return json.dumps(state, indent=1, sort_keys=True)


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first; the zero-padded step number makes names sort like steps."""
    found = (path for path in folder.glob(f"{_PREFIX}*") if step_of(path.name) is not None)
    return sorted(path for path in found if path.is_dir())
