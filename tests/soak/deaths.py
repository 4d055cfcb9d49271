"""A stage that runs while its processes die: which, when, and what came of it."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.pipelines.projects import ROOT

KINDS = ("driver", "actor", "actor", "worker")  # what dies, drawn with these shares
PAUSE = (0.2, 4.0)  # seconds before a death that waits for no rows
PATIENCE = 600  # seconds without an end


@dataclass
class Told:
    """What happened to one stage. `amid`: kills that fell while rows were being worked."""

    rows: int = 0
    files: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    amid: int = 0
    rounds: int = 0
    starts: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Death:
    """One process that is to die: when the journal has `after` files, or with 0 at any moment."""

    kind: str
    after: int


def start(stage: str, folder: Path, address: str | None) -> subprocess.Popen[bytes]:
    """A stage as people run it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | ({"RAY_ADDRESS": address} if address else {})
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", f"pipelines.{stage}"], cwd=folder, env=environment, stderr=log)


def victims(kind: str, driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Living processes of one kind: those of our own Ray are below us, and are known by what it calls them."""
    if kind == "driver":
        return [psutil.Process(driver.pid)]
    mark, found = "MapWorker" if kind == "actor" else "ray::IDLE", []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if mark in " ".join(process.cmdline()):
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


def disturbed(stage: str, folder: Path, address: str, deaths: list[Death], told: Told) -> None:
    """Run a stage from nothing to its end while processes die, one after another, as far as it takes so long."""
    driver, left, begun = start(stage, folder, address), list(deaths), time.monotonic()
    draw = random.Random(stage)  # of the moments; they depend on the machine anyway
    told.starts += 1
    while True:
        if time.monotonic() - begun > PATIENCE:
            driver.kill()
            raise RuntimeError(f"{stage} did not end in {PATIENCE} s; see {folder}/log.txt")
        try:
            code = driver.wait(draw.uniform(*PAUSE) if left and not left[0].after else 0.05)
        except subprocess.TimeoutExpired:
            code = None
        if code == 0:
            return
        if code is not None:  # it died, by our hand or because Ray lost too much: people start it again
            driver = start(stage, folder, address)
            told.starts += 1
            continue
        files = len(journal_files(folder, stage))
        alive = victims(left[0].kind, driver) if left and files >= left[0].after else []
        if alive:
            with suppress(psutil.NoSuchProcess):
                draw.choice(alive).kill()
                told.kills[left.pop(0).kind] += 1
                told.amid += 0 < files < told.files


def journal_files(folder: Path, stage: str) -> list[Path]:
    """Finished batches."""
    return list((folder / ".work" / stage).rglob("rows-*.arrow"))


def drawn_deaths(draw: random.Random, files: int, number: int) -> list[Death]:
    """The deaths of one round: every other one, about, amid the rows, the others at any moment."""
    amid = sorted(draw.randrange(1, max(2, files)) * draw.randrange(2) for _ in range(number))
    return [Death(draw.choice(KINDS), after) for after in amid]
