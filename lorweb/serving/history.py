"""The moves of a model's aliases, in one order for every process. `lorweb.serving.settle` lets the aliases follow it.

MLflow keeps no history of an alias, and cannot move one only if it still stands where it was. What it has is a list
that grows atomically: the versions of a registered model, which the database numbers from 1 without gaps; of two made
at once the second waits and takes the next number. So a move is first appended as a version of `<model>-history`,
with the state before and the state after it. It counts if the state before it is what the moves before it led to; one
that was decided on an older state is void, and every reader finds the same, from the list alone.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from lorweb.serving.address import check_model_name
from lorweb.serving.processes import lives, place

Kind = Literal["promote", "rollback", "outside"]  # outside: somebody moved an alias past lorweb, in MLflow itself
SETTLED: Final = "settled"
DONE: Final = "done"
VOID: Final = "void"
PAGE: Final = 200  # versions of one answer
LONGEST: Final = 5000  # characters of a tag that every MLflow server takes


@dataclass(frozen=True)
class State:
    """Where the two aliases stand: numbers of versions, None where there is none."""

    champion: int | None
    previous: int | None


@dataclass(frozen=True)
class Why:
    """Who moves an alias and for what; `run` is the MLflow run of the decision, "" if there is none yet."""

    by: str
    reason: str
    run: str = ""


@dataclass(frozen=True)
class Move:
    """One entry of the history."""

    number: int  # its place, from 1
    kind: Kind
    before: State
    after: State
    why: Why
    at: int  # ms since 1970, by the database's side
    place: str  # where `pid` means its process, see `place`; "" if unknown
    pid: int
    settled: str  # "" until the aliases have followed, then "done"; "void" if it does not count

    @property
    def abandoned(self) -> bool:
        """The process that made it is known to be gone: it was here."""
        return self.place == place() and not lives(self.pid)

    @property
    def own(self) -> bool:
        """This process made it."""
        return self.place == place() and self.pid == os.getpid()


def replay(moves: Sequence[Move]) -> tuple[State, list[Move]]:
    """(the state after all moves, the moves that count); the first one's state before it is where things begin.

    Raises:
        IndexError: there is no move.
    """
    state, counted = moves[0].before, []
    for move in moves:
        if move.settled != VOID and move.before == state:
            state = move.after
            counted.append(move)
    return state, counted


class History:
    """The list of one model, behind a client of `lorweb.serving.tracking`. Raises ValueError as `check_model_name`."""

    def __init__(self, client: Any, model: str) -> None:
        check_model_name(model)
        self.client, self.model, self.name = client, model, f"{model}-history"

    def moves(self) -> list[Move]:
        """All of them in their order; empty if nothing was ever moved. What lorweb did not write is no move."""
        found = [_read(version) for version in versions_of(self.client, self.name)]
        return sorted((move for move in found if move is not None), key=lambda move: move.number)

    def foreign(self) -> list[tuple[int, int]]:
        """(number, ms since 1970) of versions in the list that somebody made past lorweb, and that are no moves."""
        found = [version for version in versions_of(self.client, self.name) if _read(version) is None]
        return sorted((int(version.version), int(version.creation_timestamp)) for version in found)

    def append(self, kind: Kind, before: State, after: State, why: Why) -> Move:
        """Add a move at the end. `why.run` must name a run: its artifacts are what the entry points at."""
        tags = {
            "kind": kind,
            "before": json.dumps([before.champion, before.previous]),
            "after": json.dumps([after.champion, after.previous]),
            "by": why.by,
            "reason": why.reason[:LONGEST],
            "run": why.run,
            "place": place(),
            "pid": str(os.getpid()),
        }
        ensure_model(
            self.client, self.name, f"Moves of the aliases of {self.model}, in order; `lorweb registry history`."
        )
        source = self.client.get_run(why.run).info.artifact_uri
        made = self.client.create_model_version(
            self.name, source, why.run, tags, description=_sentence(kind, before, after, why), await_creation_for=0
        )
        return replace(_move(made), settled="")

    def mark(self, move: Move, settled: str) -> None:
        """Say that the aliases have followed a move (`DONE`), or that it does not count (`VOID`)."""
        self.client.set_model_version_tag(self.name, str(move.number), SETTLED, settled)


def versions_of(client: Any, name: str) -> Iterator[Any]:
    """All versions of a registered model, page by page; none if it does not exist."""
    token = None
    while True:
        page = client.search_model_versions(f"name='{name}'", max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def ensure_model(client: Any, name: str, description: str) -> None:
    """Make a registered model unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _read(version: Any) -> Move | None:
    try:
        return _move(version)
    except (KeyError, TypeError, ValueError):
        return None


def _move(version: Any) -> Move:
    tags = dict(version.tags)
    kind: Any = tags["kind"]
    return Move(
        int(version.version),
        kind,
        State(*json.loads(tags["before"])),
        State(*json.loads(tags["after"])),
        Why(tags["by"], tags["reason"], tags["run"]),
        int(version.creation_timestamp),
        tags.get("place", ""),
        int(tags["pid"]),
        tags.get(SETTLED, ""),
    )


def _sentence(kind: Kind, before: State, after: State, why: Why) -> str:
    words = {"promote": "promoted", "rollback": "rolled back", "outside": "moved outside of lorweb"}
    reason = f": {why.reason[:LONGEST]}" if why.reason else ""
    return f"{words[kind]} from version {before.champion} to {after.champion} by {why.by}{reason}"
