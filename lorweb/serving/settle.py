"""The aliases `champion` and `previous` follow the history: whoever comes by finishes what another began.

How processes P and Q can meet, and what comes of it:

- P dies before its move is in the list: nothing has happened, whatever runs it has left.
- P dies between its entry and the aliases, or between the two aliases: the entry is not marked. Q sets both aliases to
  the state after the last move that counts, and marks it. Setting them twice changes nothing.
- P and Q append on the same state: the list orders them. The second is void for everybody; its process hears
  `Overtaken` and has moved nothing.
- P has appended and is slow: Q waits for it, up to `PATIENCE`, or not at all where P is known to be dead. Then Q sets
  the aliases in P's place and goes on. When P wakes it may set an alias to what is by then an old state; it reads the
  list before and after it sets them, and goes on until it has found the list unchanged.
- P wakes after more than `PATIENCE`, writes an old state and dies before it looks again: the aliases stand one move
  behind. That, and a person who moves an alias in MLflow's own page, cannot be told apart: both enter the history as a
  move `outside`, by the next process that looks.
- P rolls back and dies before it could say so, and is run again: what it had begun is finished, and counts as this
  rollback. One that was finished already is refused, for the champion before it was rolled back: two rollbacks are
  never a step back and forth.

A reader sees `champion` on one whole version at every moment: MLflow sets one alias in one transaction, and lorweb
removes no version that an alias has named. (Of the same bytes registered twice at once, who came second removes his.)
"""

import time
from collections.abc import Callable
from typing import Any, Final

from lorweb.serving.history import DONE, VOID, History, Move, State, replay, versions_of

PATIENCE: Final = 10.0  # s that a living process gets for the few calls between its entry and its mark
PAUSE: Final = 0.2  # s between two looks
LOOKS: Final = 50  # rounds, each begun by another process's move, before this one gives up
ROLLED_BACK: Final = "rolled_back"


class Overtaken(ValueError):
    """Another process has moved the champion meanwhile; nothing was moved by this one."""

    def __init__(self, name: str, seen: State, now: State) -> None:
        super().__init__(
            f"the champion of {name} was version {seen.champion} when this was decided and is version {now.champion} "
            "now: another process has moved it, and nothing was moved by this one; run the same command again"
        )


class Aliases:
    """Where the aliases of a model stand, and how they come to stand where its history says."""

    def __init__(self, client: Any, model: str, history: History) -> None:
        self.client, self.model, self.history = client, model, history

    def read(self) -> State:
        """As they stand in MLflow now."""
        found = self.all()
        return State(found.get("champion"), found.get("previous"))

    def all(self) -> dict[str, int]:
        """{alias: version}; empty if the model was never registered."""
        from mlflow.exceptions import MlflowException

        try:
            model = self.client.get_registered_model(self.model)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {alias: int(number) for alias, number in model.aliases.items()}

    def settle(self, moved_outside: Callable[[State, State], None]) -> State:
        """Finish every move of the history and return the state after it.

        `moved_outside(before, after)` appends a move that somebody made past lorweb.

        Raises:
            ValueError: other processes kept moving them all the while.
        """
        written = False  # what this process has set may be old, until it has found the list unchanged behind it
        for _ in range(LOOKS):
            moves = self.history.moves()
            if not moves:
                return self.read()
            state, counted = replay(moves)
            open_moves = [move for move in moves if not move.settled]
            if open_moves and self._settled_by_its_own(open_moves[-1]):
                continue
            if open_moves or written:
                written = True
                if self._follow(moves, state, [move for move in counted if not move.settled]):
                    written = False
                    for move in open_moves:
                        self.history.mark(move, DONE if move in counted else VOID)
            elif self.read() == state:
                return state
            elif (after := self._stands_elsewhere(state, moves)) is not None:
                moved_outside(state, after)
        raise ValueError(
            f"other processes kept moving the aliases of {self.model}; look at `lorweb registry history`, then run it "
            "again"
        )

    def _settled_by_its_own(self, move: Move) -> bool:
        """Give the process that made a move the time to finish it; true if it did."""
        deadline = time.monotonic() + PATIENCE
        while not move.own and not move.abandoned and time.monotonic() < deadline:
            time.sleep(PAUSE)
            if any(found.number == move.number and found.settled for found in self.history.moves()):
                return True
        return False

    def _follow(self, moves: list[Move], state: State, unfinished: list[Move]) -> bool:
        """Set the aliases, `previous` first; true if `moves` is the whole list still, before and after.

        Where the version to be champion is gone, its move becomes void.
        """
        there = {int(version.version) for version in versions_of(self.client, self.model)}
        if unfinished and state.champion is not None and state.champion not in there:
            self.history.mark(unfinished[-1], VOID)
            return False
        for alias, number in (("previous", state.previous), ("champion", state.champion)):
            if self.history.moves() != moves:
                return False
            self._set(alias, number if number in there else None)
        for move in unfinished:
            self._mark_versions(move, there)
        return self.history.moves() == moves

    def _set(self, alias: str, number: int | None) -> None:
        stands = self.all().get(alias)
        if number is not None and stands != number:
            self.client.set_registered_model_alias(self.model, alias, str(number))
        elif number is None and stands is not None:
            self.client.delete_registered_model_alias(self.model, alias)

    def _mark_versions(self, move: Move, there: set[int]) -> None:
        """A version that was rolled back is not promoted by itself again, until somebody moves it by hand."""
        if move.after.champion in there:
            tags = self.client.get_model_version(self.model, str(move.after.champion)).tags
            if ROLLED_BACK in tags:
                self.client.delete_model_version_tag(self.model, str(move.after.champion), ROLLED_BACK)
        if move.kind == "rollback" and move.before.champion in there:
            self.client.set_model_version_tag(self.model, str(move.before.champion), ROLLED_BACK, "true")

    def _stands_elsewhere(self, state: State, moves: list[Move]) -> State | None:
        """Where the aliases stand, if that is not `state`, nobody is moving them, and they stay there."""
        first = self.read()
        time.sleep(PAUSE)
        second = self.read()
        calm = first == second and self.history.moves() == moves
        return second if calm and second != state else None
