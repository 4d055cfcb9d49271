"""The fault campaign of the data stages: random kills, and the same bytes in the end. `make soak` runs it.

python -m tests.soak.campaign [--stages collect generate ...] [--kills 20] [--seed 0] [--report docs/soak.md]

Each stage of a small project runs undisturbed once. Then it runs again from nothing, over and over, while at random
moments a random process dies by SIGKILL: the driver, an actor in its work, or a worker of Ray. A dead driver is started
again. When the stage has ended, its output must be that of the undisturbed run, byte for byte, with every row worked
into exactly one file of the journal.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipelines._results import read_batch
from pipelines._stage import start_ray
from tests.pipelines.projects import ROOT, contents, write_params

OUTS = {"collect": "data/sources", "generate": "data/candidates", "filter": "data/pairs", "encode": "data/encoded"}
BEFORE = {"encode": ["assemble"]}  # stages without rows, to run before
POOL = {"actors": 2, "cpus": 0.5, "gpus": 0, "batch_size": 2}
PROJECT: dict[str, Any] = {
    "collect": {"readers": [{"reader": "photos", "crops": 6}, {"reader": "dicebear", "styles": ["thumbs", "clay"],
                                                             "seeds": 24, "first_seed": 0}], "pool": POOL},
    "generate": {"sources_per_task": 8, "editors": [{"editor": "embedded", "tasks": ["colour/*"], "pool": POOL}]},
    "filter": {"scorers": [{"scorer": "embedded", "pool": POOL},
                           {"scorer": "features", "name": "effnet", "encoder": "efficientnet-lite0+style",
                            "pool": POOL}]},
    "assemble": {"train_subjects": [], "test_subjects": 0.3, "val_subjects": 0.2},
    "encode": {"quadrant": 32, "pool": POOL},
}  # fmt: skip
PATIENCE = 600  # seconds without an end


@dataclass
class Told:
    """What happened to one stage."""

    rows: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    starts: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@contextmanager
def ray_head() -> Iterator[str]:
    """A local Ray below this process; yields the address that drivers attach to."""
    import ray

    os.environ["PYTHONPATH"] = str(ROOT)  # workers inherit it: stages run in other folders
    start_ray()
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


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


def disturbed(stage: str, folder: Path, address: str, kills: int, draw: random.Random, told: Told) -> None:
    """Run a stage from nothing to its end while processes die; up to `kills` of them."""
    driver, killed, begun = start(stage, folder, address), 0, time.monotonic()
    told.starts += 1
    while True:
        if time.monotonic() - begun > PATIENCE:
            driver.kill()
            raise RuntimeError(f"{stage} did not end in {PATIENCE} s; see {folder}/log.txt")
        pause = draw.uniform(0.2, 4.0) if killed < kills else 0.2
        try:
            code = driver.wait(pause)
        except subprocess.TimeoutExpired:
            code = None
        if code == 0:
            return
        if code is not None:  # it died, by our hand or because Ray lost too much: people start it again
            driver = start(stage, folder, address)
            told.starts += 1
            continue
        if killed < kills:
            kind = draw.choice(["driver", "actor", "actor", "worker"])
            alive = victims(kind, driver)
            if alive:
                with suppress(psutil.NoSuchProcess):
                    draw.choice(alive).kill()
                    told.kills[kind] += 1
                    killed += 1


def journal(folder: Path, stage: str) -> Counter[str]:
    """How often each row key stands in the journal."""
    found: Counter[str] = Counter()
    for path in (folder / ".work" / stage).rglob("rows-*.arrow"):
        found.update(read_batch(path)["key"].to_pylist())
    return found


def campaign(stage: str, project: Path, kills: int, draw: random.Random) -> Told:
    """Rounds of one stage until `kills` processes have died. The project is left as an undisturbed run leaves it."""
    told, begun = Told(), time.monotonic()
    calm = contents(project / OUTS[stage])
    told.rows = sum(journal(project, stage).values())
    with ray_head() as address:
        while sum(told.kills.values()) < kills:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "project"
                shutil.copytree(project, folder)
                shutil.rmtree(folder / OUTS[stage])
                shutil.rmtree(folder / ".work" / stage)
                disturbed(stage, folder, address, min(4, kills - sum(told.kills.values())), draw, told)
                told.rounds += 1
                if contents(folder / OUTS[stage]) != calm:
                    told.faults.append(f"round {told.rounds}: other bytes than undisturbed")
                twice = [key for key, times in journal(folder, stage).items() if times > 1]
                if twice:
                    told.faults.append(f"round {told.rounds}: {len(twice)} rows were worked twice")
    told.seconds = time.monotonic() - begun
    return told


def report(found: dict[str, Told], given: argparse.Namespace) -> str:
    """The report as Markdown."""
    lines = [
        "# Fault campaign",
        "",
        f"`python -m tests.soak.campaign --kills {given.kills} --seed {given.seed}` (`make soak`), "
        f"{os.cpu_count()} cores, Python {sys.version.split()[0]}.",
        "",
        "SIGKILL at random moments to the driver, to actors in their work and to workers of Ray; a dead driver is "
        "started again. Output of every round: the bytes of the undisturbed run, each row in one file of the journal.",
        "",
        "| stage | rows | kills | driver | actor | worker | rounds | starts | seconds | faults |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for stage, told in found.items():
        kinds = " | ".join(str(told.kills[kind]) for kind in ("driver", "actor", "worker"))
        faults = "; ".join(told.faults) or "none"
        total = sum(told.kills.values())
        ways = f"{told.rounds} | {told.starts} | {told.seconds:.0f}"
        lines.append(f"| `{stage}` | {told.rows} | {total} | {kinds} | {ways} | {faults} |")
    return "\n".join(lines) + "\n"


def prepared(folder: Path) -> Callable[[str], None]:
    """A project in `folder`; the function runs one of its stages undisturbed."""
    folder.mkdir(parents=True)
    write_params(folder, PROJECT)

    def run(stage: str) -> None:
        code = start(stage, folder, None).wait(PATIENCE)
        if code != 0:
            raise RuntimeError(f"{stage} failed undisturbed; see {(folder / 'log.txt').read_text()[-2000:]}")

    return run


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stages", nargs="*", default=list(OUTS), choices=list(OUTS))
    options.add_argument("--kills", type=int, default=20, help="processes that die, for each stage")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--report", type=Path, help="Markdown file to write")
    given = options.parse_args()
    found: dict[str, Told] = {}
    with tempfile.TemporaryDirectory() as place:
        project = Path(place) / "calm"
        run = prepared(project)
        for stage in OUTS:
            for name in [*BEFORE.get(stage, []), stage]:
                run(name)
            if stage in given.stages:
                found[stage] = campaign(stage, project, given.kills, random.Random(f"{given.seed} {stage}"))
                told = found[stage]
                print(f"{stage}: {dict(told.kills)} in {told.rounds} rounds, {told.faults or 'no fault'}", flush=True)
    text = report(found, given)
    print(text)
    if given.report:
        given.report.write_text(text, encoding="utf-8")
    if any(told.faults for told in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
