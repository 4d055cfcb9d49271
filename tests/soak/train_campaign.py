"""The fault campaign of training: deaths at random moments, and the same weights in the end.

A small training of two workers runs undisturbed once. Then it runs again from nothing, over and over, while at random
moments a worker or the driver dies by SIGKILL, all workers die while a checkpoint is being written, or the driver is
told by SIGTERM to stop. A stage that has ended early is started again. In the end models and curves must be those of
the undisturbed run, byte for byte, and MLflow must have every step once.
"""

import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import yaml

from tests.harm import kill_while
from tests.pipelines.projects import contents
from tests.pipelines.train_project import logged_once, make_project
from tests.soak.deaths import PATIENCE, PAUSE, Death, Told, start

KINDS: Final = ("worker", "driver", "writing", "told")
VARIANTS: Final = ("lorweb", "single_lora")
STEPS: Final = 60
SECTION: Final = {"steps": STEPS, "checkpoint_every": 5, "validate_every": 20, "caption_dropout": 0.5, "workers": 2}
MADE: Final = (".work", "models", "metrics", "mlflow.db", "mlartifacts", "log.txt")  # by training
_LONG: Final = 20.0  # s to wait for a write to die in


def prepared(folder: Path, address: str) -> Path:
    """A project in `folder` that was trained undisturbed."""
    folder.mkdir(parents=True)
    make_project(folder, **SECTION)
    if start("train", folder, address).wait(PATIENCE) != 0:
        raise RuntimeError(f"train failed undisturbed; see {(folder / 'log.txt').read_text()[-2000:]}")
    return folder


def outcome(folder: Path) -> dict[str, bytes]:
    """What a training leaves that may not depend on its deaths."""
    found = {f"models/{name}": data for name, data in contents(folder / "models").items()}
    return found | {
        name: (folder / "metrics" / name).read_bytes() for name in ("train_loss.csv", "train_validation.csv")
    }


def faults_of(folder: Path, calm: dict[str, bytes]) -> list[str]:
    """What is wrong with a training that has ended."""
    found = outcome(folder)
    odd = sorted(name for name in {*found, *calm} if found.get(name) != calm.get(name))
    faults = [f"other bytes than undisturbed in {', '.join(odd[:3])}"] if odd else []
    try:
        logged_once(folder, STEPS)
    except (AssertionError, ValueError) as error:
        faults.append(f"MLflow has not every step of one run once ({str(error).splitlines()[0]})")
    return faults


def steps_done(folder: Path) -> int:
    """Steps of all variants that lie in checkpoints."""
    newest = dict.fromkeys(VARIANTS, 0)
    for path in (folder / ".work" / "train").glob("*/*/step-*"):
        if path.parent.name in newest:
            newest[path.parent.name] = max(newest[path.parent.name], int(path.name[-8:]))
    return sum(newest.values())


def writing(folder: Path) -> bool:
    """Whether a checkpoint is half-written at this moment."""
    return any((folder / ".work" / "train").glob("*/*/.writing-*/tensors.safetensors"))


def workers() -> list[psutil.Process]:
    """Training workers of the Ray below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


def strike(kind: str, folder: Path, driver: psutil.Process, draw: random.Random) -> bool:
    """Let one death happen; False where its moment has not come, or is gone."""
    with suppress(psutil.NoSuchProcess):
        if kind == "driver":
            driver.kill()
            return True
        if kind == "told":
            driver.send_signal(signal.SIGTERM)
            return True
        alive = workers()
        if alive and kind == "worker":
            draw.choice(alive).kill()
            return True
        return bool(alive) and kill_while(alive, lambda: writing(folder), _LONG)
    return False


def disturbed(folder: Path, address: str, deaths: list[Death], told: Told) -> None:
    """Train from nothing to the end while processes die, one after another, as far as it takes so long."""
    begun, left, draw = time.monotonic(), list(deaths), random.Random(str(deaths))
    driver, starts = start("train", folder, address), 1
    while (code := driver.poll()) != 0:
        if time.monotonic() - begun > PATIENCE or starts > 2 * len(deaths) + 2:
            driver.kill()
            log = (folder / "log.txt").read_text()[-3000:]
            raise RuntimeError(f"train did not end in {PATIENCE} s and {starts} starts: {log}")
        if code is not None:  # people start it again
            driver, starts = start("train", folder, address), starts + 1
        elif left and steps_done(folder) >= left[0].after:
            time.sleep(draw.uniform(*PAUSE) if not left[0].after else 0)
            done = steps_done(folder)
            if driver.poll() is None and strike(left[0].kind, folder, psutil.Process(driver.pid), draw):
                told.kills[left.pop(0).kind] += 1
                told.amid += 0 < done < told.rows
        time.sleep(0.02)
    told.starts += starts


def drawn_deaths(draw: random.Random, number: int) -> list[Death]:
    """The deaths of one round: most of them amid the steps, the others at any moment from the start on."""
    amid = sorted(draw.randrange(1, 2 * STEPS) * (draw.random() < 0.75) for _ in range(number))
    return [Death(draw.choice(KINDS), after) for after in amid]


def campaign(project: Path, address: str, kills: int, deaths: Callable[[int], list[Death]]) -> Told:
    """Rounds on the Ray at `address` until `kills` deaths have happened; the project stays as it is.

    `deaths` gives those of a round from their number. Every other round writes its checkpoints beside the training.
    """
    told, begun, calm = Told(rows=len(VARIANTS) * STEPS), time.monotonic(), outcome(project)
    while (left := kills - told.kills.total()) > 0:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "project"
            shutil.copytree(
                project, folder, ignore=shutil.ignore_patterns(".work", "models", "metrics", "ml*", "log.txt")
            )
            params = yaml.safe_load((folder / "params.yaml").read_text())
            params["train"]["async_checkpoints"] = told.rounds % 2 == 1
            (folder / "params.yaml").write_text(yaml.safe_dump(params))
            disturbed(folder, address, deaths(min(4, left)), told)
            told.rounds += 1
            told.faults += [f"round {told.rounds}: {fault}" for fault in faults_of(folder, calm)]
    told.seconds = time.monotonic() - begun
    return told


def report(told: Told) -> list[str]:
    """Lines of Markdown."""
    doc = re.sub(r"\s+", " ", (__doc__ or "").split("\n\n")[1])
    counts = " | ".join(str(told.kills[kind]) for kind in KINDS)
    ways = f"{told.amid} | {told.rounds} | {told.starts} | {told.seconds:.0f} | {'; '.join(told.faults) or 'none'}"
    return [
        "",
        "## Training",
        "",
        doc,
        "",
        "| steps | deaths | worker | driver | amid a checkpoint | told to stop "
        "| amid steps | rounds | starts | seconds | faults |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| {told.rows} | {told.kills.total()} | {counts} | {ways} |",
    ]
