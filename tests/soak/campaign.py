"""The fault campaign of rows, training and registry: random kills, and nothing wrong in the end. `make soak`.

python -m tests.soak.campaign [--stages collect generate ...] [--kills 20] [--seed 0] [--report docs/soak.md]

Each stage that works in rows runs undisturbed once, in a small project (calm_projects). Then it runs again from
nothing, over and over, while at random moments a random process dies by SIGKILL: the driver, an actor in its work, or
a worker of Ray. A dead driver is started again. When the stage has ended, its output must be that of the undisturbed
run, byte for byte, with every row worked into exactly one file of the journal. Training and the registry have rounds
of their own kind (train_campaign, registry_campaign).
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipelines._results import read_batch
from pipelines._stage import start_ray
from tests.pipelines.projects import ROOT, contents
from tests.soak import registry_campaign, train_campaign
from tests.soak.calm_projects import EVALUATE, undisturbed
from tests.soak.deaths import Death, Told, disturbed, drawn_deaths, journal_files

TRAIN, REGISTRY = "train", "registry"
OUTS = {
    "collect": ["data/sources"],
    "generate": ["data/candidates"],
    "filter": ["data/pairs"],
    "encode": ["data/encoded"],
    EVALUATE: ["data/evaluation", "reports"],
}
Deaths = Callable[[int, int], list[Death]]


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


def outs(folder: Path, stage: str) -> dict[str, bytes]:
    """Every file that a stage has made."""
    return {f"{out}/{name}": data for out in OUTS[stage] for name, data in contents(folder / out).items()}


def journal(folder: Path, stage: str) -> Counter[str]:
    """How often each row key stands in the journal of its function."""
    found: Counter[str] = Counter()
    for path in journal_files(folder, stage):
        found.update(f"{path.parent.name} {key}" for key in read_batch(path)["key"].to_pylist())
    return found


def faults_of(folder: Path, stage: str, calm: dict[str, bytes]) -> list[str]:
    """What is wrong with a stage that has ended: its output should be `calm`, each row should have been worked once.

    Half-written files are none of it: a kill leaves them, and the next run clears them.
    """
    found, rows = outs(folder, stage), journal(folder, stage)
    odd = sorted(name for name in {*found, *calm} if found.get(name) != calm.get(name))
    twice = [key for key, times in rows.items() if times > 1]
    faults = [f"other bytes than undisturbed in {', '.join(odd[:3])}"] if odd else []
    faults += [f"{len(twice)} rows were worked twice"] if twice else []
    return faults if rows else [*faults, "no row in the journal"]


def campaign(stage: str, project: Path, address: str, kills: int, deaths: Deaths) -> Told:
    """Rounds of one stage on the Ray at `address` until `kills` processes have died; the project stays as it is.

    `deaths` gives those of a round, from the number of files of the whole journal and how many are to die.
    """
    told, begun = Told(), time.monotonic()
    calm = outs(project, stage)
    told.rows, told.files = journal(project, stage).total(), len(journal_files(project, stage))
    while (left := kills - told.kills.total()) > 0:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "project"
            shutil.copytree(project, folder)
            for made in (*OUTS[stage], f".work/{stage}"):
                shutil.rmtree(folder / made)
            disturbed(stage, folder, address, deaths(told.files, min(4, left)), told)
            told.rounds += 1
            told.faults += [f"round {told.rounds}: {fault}" for fault in faults_of(folder, stage, calm)]
    told.seconds = time.monotonic() - begun
    return told


def report(
    found: dict[str, Told], registry: dict[str, registry_campaign.RegistryTold], given: argparse.Namespace
) -> str:
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
        "| stage | rows | kills | driver | actor | worker | amid rows | rounds | starts | seconds | faults |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for stage, told in ((stage, told) for stage, told in found.items() if stage != TRAIN):
        kinds = " | ".join(str(told.kills[kind]) for kind in ("driver", "actor", "worker"))
        faults = "; ".join(told.faults) or "none"
        total = sum(told.kills.values())
        ways = f"{told.amid} | {told.rounds} | {told.starts} | {told.seconds:.0f}"
        lines.append(f"| `{stage}` | {told.rows} | {total} | {kinds} | {ways} | {faults} |")
    lines += train_campaign.report(found[TRAIN]) if TRAIN in found else []
    lines += registry_campaign.report(registry) if registry else []
    return "\n".join(lines) + "\n"


def say(stage: str, told: Told) -> None:
    """One line as soon as a stage is through."""
    print(f"{stage}: {dict(told.kills)} in {told.rounds} rounds, {told.faults or 'no fault'}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stages", nargs="+", default=[*OUTS, TRAIN, REGISTRY], choices=[*OUTS, TRAIN, REGISTRY])
    options.add_argument("--kills", type=int, default=20, help="processes that die, for each stage")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--report", type=Path, help="Markdown file to write")
    given = options.parse_args()
    if given.report and given.report.exists() and {*OUTS, TRAIN, REGISTRY} - set(given.stages):
        options.error(
            f"{given.report} would lose the stages that are not run; name another file, or leave out --stages"
        )
    found: dict[str, Told] = {}
    registry: dict[str, registry_campaign.RegistryTold] = {}
    with tempfile.TemporaryDirectory() as place:
        for stage, project in undisturbed(Path(place), given.stages):
            with ray_head() as address:
                draw = random.Random(f"{given.seed} {stage}")
                found[stage] = campaign(stage, project, address, given.kills, partial(drawn_deaths, draw))
            say(stage, found[stage])
        if TRAIN in given.stages:
            with ray_head() as address:
                calm = train_campaign.prepared(Path(place) / "trained", address)
                deaths = partial(train_campaign.drawn_deaths, random.Random(f"{given.seed} {TRAIN}"))
                found[TRAIN] = train_campaign.campaign(calm, address, given.kills, deaths)
            say(TRAIN, found[TRAIN])
        if REGISTRY in given.stages:
            registry = registry_campaign.campaigns(Path(place), given.kills, given.seed)
    text = report(found, registry, given)
    print(text)
    if given.report:
        given.report.write_text(text, encoding="utf-8")
    if any(told.faults for told in (*found.values(), *registry.values())):
        sys.exit(1)


if __name__ == "__main__":
    main()
