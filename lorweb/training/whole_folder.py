"""Folders that are written whole or not at all: built aside, hashed, renamed; and the test whether one is still whole.

A manifest, written last, lists every file: {name: {sha256, bytes}}. A writer that is killed leaves a hidden folder,
which is never taken for a whole one and is cleared at the next start.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from lorweb.data.manifest import file_sha256

MANIFEST: Final = "manifest.json"
_TEMPORARY: Final = ".writing-"
_RENAMES: Final = 3  # another process may put the same folder there in between, once or twice


def write_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` put files into an empty folder, and make it appear as `target` in one rename, replacing what is there.

    Raises:
        Exception: whatever `fill` raises, or OSError; nothing is left behind and `target` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent))
    try:
        fill(temporary)
        _close(temporary)
        _move_over(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def fault(path: Path, files: tuple[str, ...]) -> str | None:
    """What is wrong with a folder that should hold `files`, None if it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if set(manifest) != set(files):
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


def clear_leftovers(folder: Path) -> None:
    """Delete the half-written folders of killed runs."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _close(folder: Path) -> None:
    """Manifest, then everything onto the disk."""
    manifest = {
        path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _sync(path)
    folder.chmod(0o755)  # mkdtemp makes it private, but evaluation may run as another user


def _move_over(temporary: Path, target: Path) -> None:
    """Rename onto `target`, which may exist: a damaged folder, or an equal one."""
    asides: list[Path] = []
    for left in reversed(range(_RENAMES)):
        try:
            temporary.rename(target)
            break
        except OSError:
            if not left or not target.exists():
                raise
            asides.append(Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent)))
            with suppress(FileNotFoundError):
                target.rename(asides[-1] / target.name)
    for aside in asides:
        shutil.rmtree(aside, ignore_errors=True)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
