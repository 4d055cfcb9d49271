"""The fault campaign of the registry: promotions and rollbacks that die, and a champion that always loads.

Two processes promote and roll back at random, without a pause, while a third one loads the champion over and over. At
random moments one of the two dies by SIGKILL, then the other. After each death the champion must load; after each
round a look must repair what was begun, every move that its process heard to be done must stand in the history, one
that it heard to be overtaken must not count, and each move must begin where the one before it ended.
"""

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import Registry, Why
from tests.serving.movers import faults_of, journal, start
from tests.serving.servers import mlflow_server, no_postgres, postgres

VERSIONS = 4
LONGEST = 12.0  # moves that a process has time for before it dies, at the pace of an undisturbed one
PATIENCE = 120  # seconds until a process has begun
ENDLESS = 100_000  # moves
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass
class RegistryTold:
    """What happened to one registry."""

    kills: int = 0
    amid: int = 0  # kills between the beginning of a move and its end
    repaired: int = 0  # rounds that left a move written down and not finished
    rounds: int = 0
    moves: int = 0
    loads: int = 0  # of the champion, while processes died
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@contextmanager
def at(uri: str | None) -> Iterator[None]:
    """MLflow at an address; None is the database in the project root."""
    before = os.environ.pop("MLFLOW_TRACKING_URI", None)
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before:
            os.environ["MLFLOW_TRACKING_URI"] = before


def prepared(root: Path, uri: str | None) -> None:
    """A registry with a champion and a few versions."""
    with at(uri):
        registry = Registry("lorweb", root, create=True)
        for number in range(VERSIONS):
            folder = root / f"candidate-{number}"
            folder.mkdir(parents=True)
            (folder / "basis.safetensors").write_bytes(bytes([number]) * 1000)
            (folder / "metadata.json").write_text(json.dumps({"number": number}))
            registry.submit(Submission(folder, {"seen/lorweb/mse_to_truth": 0.1}, {}))
        registry.promote(registry.by_number(1), Why("setup", "setup"))


def campaign(root: Path, uri: str | None, kills: int, draw: random.Random) -> RegistryTold:
    """Rounds on a prepared registry until `kills` processes have died."""
    told, begun = RegistryTold(), time.monotonic()
    with at(uri):
        registry, stop = Registry("lorweb", root), root / "stop"
        pace = _pace(registry)
        reader = _CONTEXT.Process(target=_read_on, args=(str(root), uri, str(stop)))
        reader.start()
        try:
            while told.kills < kills:
                told.rounds += 1
                _round(root, uri, told, lambda: draw.uniform(0, LONGEST * pace))
                told.repaired += any(not move.settled for move in registry.history.moves())
                told.faults += [f"round {told.rounds}: {fault}" for fault in faults_of(root, registry)]
        finally:
            stop.touch()
            reader.join(PATIENCE)
        told.moves = len([move for move in registry.moves() if move.settled == "done"])
    read = json.loads((root / "reads.json").read_text())
    told.loads, told.seconds = read["loads"], time.monotonic() - begun
    told.faults += read["faults"][:3]
    return told


def _pace(registry: Registry) -> float:
    """Seconds of an undisturbed move."""
    begun = time.monotonic()
    for number in (2, 1):
        registry.promote(registry.by_number(number), Why("setup", f"setup-{time.monotonic_ns()}"))
    return (time.monotonic() - begun) / 2


def _round(root: Path, uri: str | None, told: RegistryTold, pause: Callable[[], float]) -> None:
    names = [f"{told.rounds}{letter}" for letter in "ab"]
    movers = {name: start(root, uri, name, ENDLESS, told.rounds * 2 + index) for index, name in enumerate(names)}
    _until(lambda: all(f"{name}-" in journal(root) for name in names))
    for name in names:
        time.sleep(pause())
        if not movers[name].is_alive():
            told.faults.append(f"round {told.rounds}: a process ended by itself, see the console")
        movers[name].kill()
        movers[name].join()
        told.kills += 1
        told.amid += "begun" in [word for token, word in journal(root).items() if token.startswith(f"{name}-")]


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing after {PATIENCE} s")
        time.sleep(0.02)


def _read_on(root: str, uri: str | None, stop: str) -> None:
    """Load the champion by its alias until told to stop."""
    loads, faults = 0, []
    with at(uri):
        from lorweb.serving.artifacts import resolve

        while not Path(stop).exists():
            try:
                resolve("models:/lorweb@champion", Path(root))
                loads += 1
            except ValueError as error:
                faults.append(f"a reader found no whole champion: {error}")
    (Path(root) / "reads.json").write_text(json.dumps({"loads": loads, "faults": faults}))


def campaigns(place: Path, kills: int, seed: int) -> dict[str, RegistryTold]:
    """The registry's campaign on a database file, and on a server in front of a database."""
    found: dict[str, RegistryTold] = {}
    for name in ("SQLite file", "server, SQLite" if no_postgres() else "server, Postgres"):
        root, draw = place / name.replace(" ", "-"), random.Random(f"{seed} {name}")
        root.mkdir()
        with ExitStack() as stack:
            database = stack.enter_context(postgres()) if name.endswith("Postgres") else f"sqlite:///{root}/mlflow.db"
            uri = stack.enter_context(mlflow_server(root, database)) if name.startswith("server") else None
            prepared(root, uri)
            found[name] = campaign(root, uri, kills, draw)
        print(f"registry, {name}: {found[name]}", flush=True)
    return found


def report(found: dict[str, RegistryTold]) -> list[str]:
    """Lines of the report."""
    lines = [
        "",
        "## Registry",
        "",
        " ".join((__doc__ or "").split("\n\n", 1)[1].split()),
        "",
        "| MLflow | deaths | amid a move | rounds | repaired | moves | loads of the champion | seconds | faults |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, told in found.items():
        faults = "; ".join(told.faults) or "none"
        numbers = (told.kills, told.amid, told.rounds, told.repaired, told.moves, told.loads, f"{told.seconds:.0f}")
        lines.append(f"| {name} | {' | '.join(map(str, numbers))} | {faults} |")
    return lines
