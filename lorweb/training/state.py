"""Checkpoints of a training run: safetensors and JSON only, written atomically, checked by hash before they are used.

    <folder>/step-00000200/tensors.safetensors    model/<name>, optimizer/<name>/<slot>, history/<name>
                           state.json             step, identity (config and data fingerprints), anything else as JSON
                           manifest.json          {file: {sha256, bytes}}, written last

A folder that is not exactly what its manifest says is named, skipped, and replaced when the run reaches its step again.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lorweb.data.manifest import file_sha256

TENSORS: Final = "tensors.safetensors"
STATE: Final = "state.json"
MANIFEST: Final = "manifest.json"
_PREFIX: Final = "step-"
_TEMPORARY: Final = ".writing-"


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

    path: Path
    reason: str


def save_checkpoint(folder: Path, snapshot: Snapshot, keep: int, best: int | None = None) -> Path:
    """Write `folder`/step-N in one rename, then delete all but the `keep` newest checkpoints up to step N.

    The checkpoint of step `best` stays as well.

    Raises:
        OSError: the disk is full or read-only; nothing is left behind and older checkpoints are untouched.
    """
    target = checkpoint_path(folder, snapshot.step)
    temporary: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
        _write(temporary, snapshot)
        _move_over(temporary, target)
    except (OSError, SafetensorError) as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            f"cannot write the checkpoint of step {snapshot.step} to {folder}: {error}; earlier checkpoints are whole: "
            "free some space or make the folder writable, then run the same command again to go on from the last one"
        ) from error
    spared = None if best is None else checkpoint_path(folder, best)
    done = [path for path in _checkpoints(folder) if path <= target and path != spared]
    for path in done[: max(0, len(done) - keep)]:
        shutil.rmtree(path, ignore_errors=True)
    return target


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"{_PREFIX}{step:08d}"


def newest_whole(folder: Path) -> tuple[Path | None, list[Damaged]]:
    """The newest undamaged checkpoint of a folder, and the newer ones that were skipped with their reasons."""
    damaged: list[Damaged] = []
    for path in reversed(_checkpoints(folder)):
        reason = _fault(path)
        if reason is None:
            return path, damaged
        damaged.append(Damaged(path, reason))
    return None, damaged


def load_checkpoint(path: Path, identity: Mapping[str, str]) -> Snapshot:
    """Read a checkpoint that `newest_whole` returned.

    Raises:
        ValueError: it is damaged, or was written under another config or data; every difference is listed.
    """
    reason = _fault(path)
    if reason is not None:
        raise ValueError(f"checkpoint {path} is damaged: {reason}; delete it to go on from the one before")
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    differences = _differences(state["identity"], identity)
    if differences:
        raise ValueError(
            f"checkpoint {path} was written by another run: {'; '.join(differences)}; "
            "restore these settings, or train in another folder"
        )
    return Snapshot(state["step"], state["identity"], load_file(path / TENSORS), state["facts"])


def clear_leftovers(folder: Path) -> None:
    """Delete half-written checkpoints of killed runs."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _write(folder: Path, snapshot: Snapshot) -> None:
    save_file(dict(snapshot.tensors), folder / TENSORS)
    state = {"step": snapshot.step, "identity": dict(snapshot.identity), "facts": dict(snapshot.facts)}
    (folder / STATE).write_text(json.dumps(state, indent=1, sort_keys=True), encoding="utf-8")
    manifest = {
        name: {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in (TENSORS, STATE)
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _sync(path)
    folder.chmod(0o755)  # mkdtemp makes it private, but evaluation may run as another user


def _move_over(temporary: Path, target: Path) -> None:
    """Rename onto `target`, which may exist: a damaged checkpoint, or an equal one."""
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent))
        target.rename(aside / target.name)
        temporary.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        temporary.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first; the zero-padded step number makes names sort like steps."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, None if it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if set(manifest) != {TENSORS, STATE}:
            return f"{MANIFEST} lists {sorted(manifest)}"
        for name, told in manifest.items():
            size = (path / name).stat().st_size
            if size != told["bytes"]:
                return f"{name} has {size} bytes instead of {told['bytes']}"
            if file_sha256(path / name) != told["sha256"]:
                return f"{name} is not what was written (its sha256 differs)"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def _differences(stored: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    return [
        f"{key} was {stored.get(key, 'absent')} and is {current.get(key, 'absent')}"
        for key in sorted({*stored, *current})
        if stored.get(key) != current.get(key)
    ]
