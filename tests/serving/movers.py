"""Processes that move aliases, on their own, and say in a journal what they began and what they heard.

They are forked from a server that has imported MLflow and opened no database: a start takes a fraction of a second.
"""

import itertools
import multiprocessing
import os
import random
from multiprocessing.process import BaseProcess
from pathlib import Path

from lorweb.serving.artifacts import Submission
from lorweb.serving.registry import Overtaken, Registry, Why

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.serving.movers", "mlflow", "mlflow.store.tracking.sqlalchemy_store",
     "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.rest_store"]
)  # fmt: skip


def start(root: Path, uri: str | None, name: str, moves: int, seed: int) -> BaseProcess:
    """A process that makes `moves` random moves of the model `lorweb`, with its journal in `root`."""
    process = _CONTEXT.Process(target=_work, args=(str(root), uri, name, moves, seed))
    process.start()
    return process


def submit_all(root: Path, uri: str | None, count: int, text: str) -> None:
    """As many processes register the same candidate at once. Raises RuntimeError if one of them fails."""
    folder = root / "same"
    folder.mkdir()
    (folder / "basis.safetensors").write_bytes(text.encode())
    (folder / "metadata.json").write_text("{}")
    crowd = [_CONTEXT.Process(target=_submit, args=(str(root), uri)) for _ in range(count)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(300)
    if any(process.exitcode for process in crowd):
        raise RuntimeError("a process could not register its candidate; see the console")


def _submit(root: str, uri: str | None) -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    Registry("lorweb", Path(root), create=True).submit(Submission(Path(root) / "same", {"m": 1.0}, {"who": "crowd"}))


def journal(root: Path) -> dict[str, str]:
    """{token: the last word on that move: begun, done, overtaken, nothing (to do) or failed}."""
    found = {}
    for path in sorted(root.glob("moves-*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            word, token = line.split()
            found[token] = word
    return found


def _work(root: str, uri: str | None, name: str, moves: int, seed: int) -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    registry, draw = Registry("lorweb", Path(root)), random.Random(seed)
    numbers = [version.number for version in registry.versions()]
    with (Path(root) / f"moves-{name}.txt").open("a", encoding="utf-8") as log:

        def note(word: str, token: str) -> None:
            log.write(f"{word} {token}\n")
            log.flush()

        note("ready", f"{name}-")
        for index in range(moves):
            token = f"{name}-{index}"
            note("begun", token)
            try:
                moved = True
                if draw.random() < 0.3:
                    moved = registry.rollback(Why(name, token))[1]
                else:
                    moved = registry.promote(registry.by_number(draw.choice(numbers)), Why(name, token))
            except Overtaken:
                note("overtaken", token)
            except ValueError as error:
                if not any(words in str(error) for words in ("no previous champion", "was rolled back already")):
                    note("failed", token)
                    raise
                note("nothing", token)
            else:
                note("done" if moved else "nothing", token)


def faults_of(root: Path, registry: Registry) -> list[str]:
    """What is wrong with a registry whose movers are gone, after a look that repairs it."""
    said = journal(root)
    faults = _champion_faults(registry)
    registry.recover()
    moves = registry.moves()
    counted = [move for move in moves if move.settled != "void"]
    if [move.settled for move in counted] != ["done"] * len(counted):
        faults.append("a move is not finished after a repair")
    for before, after in itertools.pairwise(counted):
        if before.after != after.before:
            faults.append(f"move {after.number} begins where move {before.number} did not end")
    if counted and registry.aliases.read() != counted[-1].after:
        faults.append(f"aliases {registry.aliases.read()} are not where the history ends, {counted[-1].after}")
    faults += [f"move {move.number} was made by nobody" for move in moves if move.kind == "outside"]
    tokens = [move.why.reason for move in counted]
    faults += [f"{token} was made twice" for token in sorted({token for token in tokens if tokens.count(token) > 1})]
    faults += [f"{token} was overtaken, and counts" for token in tokens if said.get(token) == "overtaken"]
    faults += [
        f"{token} is done, and does not count" for token, word in said.items() if word == "done" and token not in tokens
    ]
    started_somewhere = {token for token in tokens if token in said or token.startswith("setup")}
    faults += [f"{token} is in the history, and nobody began it" for token in set(tokens) - started_somewhere]
    numbers = {move.after.champion for move in counted}
    faults += [] if numbers <= {version.number for version in registry.versions()} else ["a champion is no version"]
    return faults + _champion_faults(registry)


def _champion_faults(registry: Registry) -> list[str]:
    """The champion's files load and are those that were registered."""
    champion = registry.by_alias("champion")
    if champion is None:
        return ["there is no champion"]
    try:
        registry.folder(champion)
    except ValueError as error:
        return [f"the champion does not load: {error}"]
    return []
