"""What the stages share: metrics, publishing a finished folder, starting Ray, one sentence for what failed."""

import ctypes
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import joblib
import yaml

from lorweb.records import stable_id
from lorweb.storage.locks import lock_of, locked
from pipelines._code import CODE, ROOT, hash_of
from pipelines._metrics import closing_line
from pipelines._node import code_for_nodes, store
from pipelines._record import record

WORK: Final = Path(".work")
_RAY_STARTS: Final = 3  # a raylet that does not answer within 30 s on a busy machine usually does the next time
_QUIET: Final = {  # set for Ray's own processes too, unless the caller has decided otherwise
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
INTERRUPTED: Final = 130  # as shells have it for Ctrl-C
_ABORTED: Final = (0, 1)  # how Ray Train ends the process on Ctrl-C, without a word
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


class StageFailed(Exception):
    """A stage cannot go on; the message says what was wrong and what to do."""


class TooManyRefused(StageFailed):
    """More rows were refused than may be; `reasons` are the commonest with examples, a line each."""

    def __init__(self, what: str, reasons: str) -> None:
        super().__init__(f"{what}:\n{reasons}")
        self.reasons = reasons


@contextmanager
def stage(name: str) -> Iterator[dict[str, Any]]:
    """Run the body of a stage: it fills the metrics, which are written with the seconds it took when it succeeds.

    Faults that a person can answer end the process with one sentence, and so does Ctrl-C (exit code 130); anything else
    is a bug and keeps its traceback. Of two that run one stage in one folder, the second waits for the first.
    """
    metrics: dict[str, Any] = {}
    try:
        store()  # so that paths of its protocol open as it does
        WORK.mkdir(exist_ok=True)
        busy = f"{name}: another process runs this stage in this folder; waiting for it"
        with locked(lock_of(WORK / name), lambda: print(busy, file=sys.stderr, flush=True), needed=False):
            started = time.monotonic()
            yield metrics
            metrics["seconds"] = round(time.monotonic() - started, 1)
            if metrics.get("kept"):
                metrics["seconds_per_kept"] = round(metrics["seconds"] / metrics["kept"], 4)
            write_metrics(name, metrics)
            record(name)
    except (StageFailed, ValueError, OSError) as error:
        raise SystemExit(f"{name}: {error}") from error
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code not in _ABORTED:
            raise
        print(f"{name}: stopped; what is finished is kept, run the same command again to go on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from stop
    print(closing_line(name, metrics), file=sys.stderr, flush=True)


def write_metrics(name: str, metrics: Mapping[str, Any]) -> None:
    """Write `metrics/<name>.json`, keys sorted, in one step."""
    write_text(Path("metrics") / f"{name}.json", json.dumps(metrics, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**32) from stable names: the same on every machine, in any order of arrival."""
    return int(stable_id("seed", *parts)[:8], 16)


@lru_cache
def code_sha256(name: str) -> str:
    """Hash of the code that dvc.yaml lists for a stage, "" for another name: work of other code counts as not done."""
    listed = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].get(name, {}).get("deps", [])
    deps = [ROOT / dep for dep in listed if dep.split("/")[0] in CODE]
    files = (path for dep in deps for path in ([dep] if dep.is_file() else dep.rglob("*")) if path.is_file())
    return hash_of((path for path in files if "__pycache__" not in path.parts), ROOT) if listed else ""


@contextmanager
def publishing(out: Path, name: str) -> Iterator[Path]:
    """Build a folder in `.work/<stage>/publish` and put it at `out` in one rename when the body succeeds.

    Killed at any moment, `out` holds the old folder or the new one, never a half.
    """
    building = WORK / name / "publish" / out.name
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    yield building
    swap_into_place(building, out)


def swap_into_place(built: Path, out: Path) -> None:
    """Make `built` appear as `out`, replacing what was there; the old folder is removed afterwards."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if not out.exists():
        built.rename(out)
        return
    if not _exchange(built, out):  # file systems without an atomic exchange: two renames, the old one back on a fault
        aside = built.with_name(f"{built.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        out.rename(aside)
        try:
            built.rename(out)
        except OSError:
            aside.rename(out)
            raise
        built = aside
    shutil.rmtree(built)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically (Linux renameat2); False where the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    return bool(libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def start_ray() -> bool:
    """Attach to the cluster in RAY_ADDRESS or start a local one; False if Ray already runs in this process.

    The cores that this machine or container lends are announced, at least 4: actors and the tasks that feed them must
    fit side by side, or Ray Data waits for ever. Pools ask for fractions of a CPU, so real cores are not overbooked.
    """
    import ray

    if ray.is_initialized():
        return False
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS")
    for attempt in range(1, _RAY_STARTS + 1):
        try:
            _init_ray(address)
            return True
        except Exception as error:  # Ray raises its own, RuntimeError, ConnectionError and bare Exception here
            ray.shutdown()
            if attempt == _RAY_STARTS or address:
                where = f"at RAY_ADDRESS={address}" if address else "on this machine"
                raise StageFailed(f"no Ray {where} ({error}); start it, or unset RAY_ADDRESS to run locally") from error
    raise AssertionError("unreachable")


def _init_ray(address: str | None) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        with code_for_nodes() as carried:
            ray.init(address=address, **carried, **quiet)
        return
    own = {"num_cpus": max(4, joblib.cpu_count()), "object_store_memory": 512 << 20, "include_dashboard": False}
    ray.init("local", **own, **quiet)


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the length of the body; a session that already ran is left running."""
    import ray

    started = start_ray()
    try:
        yield
    finally:
        if started:
            ray.shutdown()
