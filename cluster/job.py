"""The far side of a submission: `python -m cluster.job STAGE`, run by Ray; it runs the very command of dvc.yaml.

Where nodes share nothing but a store, it brings the stage's inputs from there, and leaves there what the stage made.
The folder it works in then goes; that of a job that failed is kept for the next try. In a folder that nodes share, it
notes which job made the outs.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

import yaml

from cluster.errand import BESIDE, READS, STORE, Errand, deps, outs
from cluster.kept import keep
from cluster.outcome import STOPPED
from cluster.parcel import Parcel, clear, pack, unpack, whole
from lorweb.storage import StorageError, Store
from lorweb.storage.locks import idle
from lorweb.storage.places import node_folder
from pipelines._code import ROOT
from pipelines._launch import JOB
from pipelines._stage import WORK

PATIENCE: Final = 30.0  # s


@dataclass(frozen=True)
class Ticket:
    """What the submitter leaves for the job."""

    inputs: Parcel
    beside: Parcel  # what the stage reads where it is there
    params: str  # of params.yaml
    lock: str  # of dvc.lock, for the lineage record; may be empty

    def to_json(self) -> str:
        """As it lies in the store."""
        parcels = {"inputs": json.loads(self.inputs.to_json()), "beside": json.loads(self.beside.to_json())}
        return json.dumps({**parcels, "params": self.params, "lock": self.lock})

    @classmethod
    def of_json(cls, text: str) -> "Ticket":
        """Read what `to_json` wrote."""
        read = json.loads(text)
        inputs, beside = (Parcel.of_json(json.dumps(read[name])) for name in ("inputs", "beside"))
        return cls(inputs, beside, read["params"], read["lock"])


def ticket_key(name: str) -> str:
    """Where the ticket of a submission lies in the store."""
    return f"jobs/{name}.json"


def result_key(name: str) -> str:
    """Where the parcel that a finished job made lies in the store."""
    return f"results/{name}.json"


def found_result(store: Store, name: str) -> Parcel | None:
    """What an earlier job of that name made, if all of it is still in the store. Raises StorageError."""
    try:
        parcel = Parcel.of_json(store.read(result_key(name)).decode())
    except FileNotFoundError:
        return None
    return parcel if whole(store, parcel) else None


def main() -> None:
    """Run the stage that the command line names."""
    stage, name = sys.argv[1], os.environ[JOB]
    if STORE not in os.environ:
        return _run_here(stage, name)
    told = json.loads(os.environ[STORE])
    try:
        return _run(stage, name, Store(told["uri"], told["options"]))
    except FileNotFoundError as error:
        raise SystemExit(
            f"{stage}: the store {told['uri']} has no ticket of job {name} ({error}); submit it again"
        ) from error
    except (StorageError, OSError) as error:
        raise SystemExit(f"{stage}: {error}") from error


def _run_here(stage: str, name: str) -> None:
    """In a folder that nodes share: one job of a stage at a time, and no note of outs that were made of others."""
    signal.signal(signal.SIGTERM, _leave)
    root = Path.cwd()
    with alone(root / WORK / "jobs", stage) as lock:
        _as_told(stage, root)
        if code := call(stage, root, lock):
            raise SystemExit(code)
        _as_told(stage, root)
        keep(root, stage, name)


def _as_told(stage: str, root: Path) -> None:
    told, params = os.environ.get(READS), root / "params.yaml"
    if told is None:
        return
    there = params.read_text(encoding="utf-8") if params.is_file() else "{}"
    try:
        same = Errand(stage, root, there).shared_reads() == told
    except (KeyError, TypeError, yaml.YAMLError):  # a section is gone, or the file is half written
        same = False
    if not same:
        raise SystemExit(
            f"{stage}: parameters or inputs in {root} have changed since this job was submitted; submit the stage again"
        )


@contextmanager
def alone(folder: Path, stage: str, patience: float = PATIENCE) -> Iterator[IO[str]]:
    """Hold the stage's lock, the open file, in the folder. A driver left behind has `patience` seconds to end."""
    folder.mkdir(parents=True, exist_ok=True)
    last = time.monotonic() + patience
    while True:
        with idle(folder / f"{stage}.lock", unlocked=True) as lock:
            if lock is not None:
                yield lock
                return
        if time.monotonic() > last:
            raise SystemExit(
                f"{stage}: another job of this stage works in the same folder; wait until it has ended, or "
                "end it with `ray job stop NAME`, by the name that `ray job list` has (both --address http://HOST:8265)"
            )
        time.sleep(0.2)


def _run(stage: str, name: str, store: Store) -> None:
    signal.signal(signal.SIGTERM, _leave)
    ticket = Ticket.of_json(store.read(ticket_key(name)).decode())
    with work_place(node_folder(store) / "jobs", stage) as (root, lock):
        made = outs(stage)
        clear(root, [*made, "dvc.lock"])  # as DVC does: no out of an earlier run is there
        fetched = unpack(store, ticket.inputs, root, deps(stage))
        unpack(store, ticket.beside, root, BESIDE)
        (root / "params.yaml").write_text(ticket.params, encoding="utf-8")
        if ticket.lock:
            (root / "dvc.lock").write_text(ticket.lock, encoding="utf-8")
        print(f"{stage}: {fetched} of {len(ticket.inputs.inventory.files)} input files fetched", flush=True)
        code = call(stage, root, lock)
        if code:
            raise SystemExit(code)
        result = pack(store, root, made)
        store.write(result_key(name), result.to_json().encode())
        clear(root.parent, [root.name])  # all of it lies in the store; left here, stages would fill the head's disk
        size = sum(size for _, size in result.inventory.files.values())
        print(f"{stage}: {len(result.inventory.files)} files, {size / 2**20:.1f} MiB, are in {store.uri}", flush=True)


def call(stage: str, root: Path, lock: IO[str]) -> int:
    """Run the stage in its folder with the code of this job; its exit code as a shell tells it.

    The stage holds the folder's lock too: where this process is killed alone, no other job joins the one that goes on.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", f"pipelines.{stage}"]
    child = subprocess.Popen(command, cwd=root, env=environment, pass_fds=[lock.fileno()])
    signal.signal(signal.SIGTERM, lambda *_: None)  # Ray sends it to the whole group: the stage ends in its own way
    code = child.wait()
    signal.signal(signal.SIGTERM, _leave)
    return code if code >= 0 else 128 - code


@contextmanager
def work_place(folder: Path, stage: str) -> Iterator[tuple[Path, IO[str]]]:
    """The first folder of this stage on this node that no other job holds, and its lock; free when all of it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        with idle(folder / f"{stage}-{number}.lock") as lock:
            if lock is not None:
                root = folder / f"{stage}-{number}"
                root.mkdir(exist_ok=True)
                yield root, lock
                return


def _leave(_number: int, _frame: FrameType | None) -> Any:
    raise SystemExit(STOPPED)


if __name__ == "__main__":
    main()
