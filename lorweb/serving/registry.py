"""The model registry: versions by content, and three aliases that several processes may move, and die while at it.

    candidate   the version made last        champion   the version that is served        previous   the champion before

Moves of `champion` and `previous` go through a history that the database orders (`lorweb.serving.history`); the aliases
follow it (`lorweb.serving.settle`, which says how processes can meet). Every step may be repeated.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lorweb.serving.artifacts import Submission, content_hash, resolve
from lorweb.serving.decisions import DECISION_FILE, EVIDENCE_FILE, Decisions, foreign_event, moved_event, refused_event
from lorweb.serving.history import VOID, History, Kind, Move, State, Why, replay
from lorweb.serving.orphans import tidy
from lorweb.serving.processes import current_user
from lorweb.serving.settle import ROLLED_BACK, Aliases, Overtaken
from lorweb.serving.tracking import PatientClient, experiment_id, open_client, tracking_uri
from lorweb.serving.versions import Version, check_files, displaced, is_whole, make_version, read_versions, withdraw

__all__ = ["ROLLED_BACK", "Overtaken", "Registry", "State", "Version", "Why"]
EVIDENCE: Final = "evidence_run"  # run whose evidence.json holds what a version was judged by


class Registry:
    """One registered model. Raises ValueError when the registry cannot be reached; see `open_client`."""

    def __init__(self, name: str, root: Path = Path(), create: bool = False) -> None:
        self.name, self.root = name, root
        self.client: Any = PatientClient(open_client(root, create), tracking_uri(root))
        self.history = History(self.client, name)
        self.aliases = Aliases(self.client, name, self.history)
        self.decisions = Decisions(self.client, name, root)

    def versions(self) -> list[Version]:
        """All versions, oldest first; empty if the model was never registered."""
        return read_versions(self.client, self.name, self.aliases.all())

    def by_alias(self, alias: str) -> Version | None:
        """The version that an alias names, or None."""
        return next((v for v in self.versions() if alias in v.aliases), None)

    def by_content(self, content: str) -> Version | None:
        """The oldest version with these bytes, or None."""
        return next((v for v in self.versions() if v.content == content), None)

    def by_number(self, number: int) -> Version:
        """A version by its number. Raises ValueError that lists the versions there are."""
        known = self.versions()
        for version in known:
            if version.number == number:
                return version
        raise ValueError(f"{self.name} has no version {number}; there are {[v.number for v in known] or 'none yet'}")

    def folder(self, version: Version) -> Path:
        """The files of a version, see `lorweb.serving.artifacts.resolve`."""
        return resolve(f"models:/{self.name}/{version.number}", self.root)

    def evidence(self, version: Version) -> dict[str, Any] | None:
        """What the version was judged by last, or None; see `record`."""
        return self.decisions.read(version.tags[EVIDENCE], EVIDENCE_FILE) if EVIDENCE in version.tags else None

    def submit(self, submission: Submission) -> Version:
        """Register a candidate and point the alias `candidate` at it; known bytes get no new version.

        Where the files of the known version are gone or damaged, the bytes are registered anew.

        Raises:
            FileNotFoundError: the folder has no basis.safetensors or no metadata.json.
        """
        content = content_hash(submission.folder)
        tidy(self.client, experiment_id(self.client, self.root))
        version = self._whole(content) or self._register(submission, content)
        if submission.description and not version.description:
            self.client.update_model_version(self.name, str(version.number), submission.description)
        self.client.set_registered_model_alias(self.name, "candidate", str(version.number))
        return self.by_number(version.number)

    def record(
        self, version: Version, title: str, files: Mapping[str, Mapping[str, Any]], tags: Mapping[str, str]
    ) -> str:
        """Keep a decision on a version as JSON files of a run; returns its id. Evidence stays with the version."""
        run = self.decisions.record(version.number, title, files, tags)
        if EVIDENCE_FILE in files:
            self.tag(version, EVIDENCE, run)
        return run

    def tag(self, version: Version, key: str, value: str) -> None:
        """Set one tag of a version."""
        self.client.set_model_version_tag(self.name, str(version.number), key, value)

    def promote(self, version: Version, why: Why | None = None, seen: State | None = None) -> bool:
        """Make a version the champion, and the one before it `previous` (`displaced`); false if it was that already.

        Args:
            seen: what `settle` gave when the decision was made; the champion must still be that one.

        Raises:
            Overtaken: it is not, or another process came first.
            NotWhole: the version's files are gone or damaged; nothing was moved.
        """
        now = self.settle()
        if seen is not None and now.champion != seen.champion:
            raise Overtaken(self.name, seen, now)
        check_files(self.name, version.number, self.root, now.champion)
        if now.champion == version.number:
            if ROLLED_BACK in self.by_number(version.number).tags:
                self.client.delete_model_version_tag(self.name, str(version.number), ROLLED_BACK)
            return False
        after = State(version.number, displaced(self.versions(), version.number, now))
        self._move("promote", now, after, why or Why(current_user(), ""))
        return True

    def rollback(self, why: Why | None = None) -> tuple[Version, bool]:
        """Swap champion and previous; the version that goes is marked, so that it is not promoted again by itself.

        Returns the champion, and false if only a rollback to it was finished, which a process that is gone had begun.

        Raises:
            ValueError: there is no champion or no previous version, or the previous version was itself rolled back.
            NotWhole: the files of the previous version are gone or damaged; nothing was moved.
            Overtaken: another process came first.
        """
        begun = [move for move in self.history.moves()[-1:] if not move.settled and (move.own or move.abandoned)]
        now = self.settle()
        if begun and begun[0].kind == "rollback" and begun[0].after == now:
            return self.by_number(now.champion or 0), False
        if now.champion is None or now.previous is None or now.champion == now.previous:
            raise ValueError(f"{self.name} has no previous champion to roll back to; see `lorweb registry list`")
        version = self.by_number(now.previous)
        if ROLLED_BACK in version.tags:
            raise ValueError(
                f"version {version.number} of {self.name} was rolled back already, and version {now.champion} is the "
                f"champion; `lorweb registry promote {version.number} --reason TEXT` brings it back"
            )
        check_files(self.name, version.number, self.root, now.champion)
        self._move("rollback", now, State(now.previous, now.champion), why or Why(current_user(), ""))
        return self.by_number(version.number), True

    def settle(self) -> State:
        """Finish what other processes have begun; returns where `champion` and `previous` stand then."""
        return self.aliases.settle(self._moved_outside)

    def recover(self) -> bool:
        """Finish a move that a killed process had begun; true if there was one."""
        begun = any(not move.settled for move in self.history.moves())
        self.settle()
        return begun

    def moves(self) -> list[Move]:
        """The history, oldest first; moves that do not count are marked as void, finished or not."""
        moves = self.history.moves()
        counted = replay(moves)[1] if moves else []
        return [move if move in counted else replace(move, settled=VOID) for move in moves]

    def events(self) -> list[dict[str, Any]]:
        """Moves and refusals in the order of time: at, what, from, to, by, why, run. Moves keep the history's order."""
        moves = self.moves()
        times = itertools.accumulate((move.at for move in moves), max)  # clocks of several machines may disagree
        found = [(at, moved_event(move)) for at, move in zip(times, moves, strict=True)]
        found += [(run.info.start_time, refused_event(run)) for run in self.decisions.refusals()]
        found += [(at, foreign_event(number, at)) for number, at in self.history.foreign()]
        return [event for _, event in sorted(found, key=lambda entry: entry[0])]

    def _whole(self, content: str) -> Version | None:
        """The oldest version with these bytes whose files are whole, or None."""
        same = (version for version in self.versions() if version.content == content)
        return next((version for version in same if is_whole(self.name, version.number, self.root)), None)

    def _move(self, kind: Kind, before: State, after: State, why: Why) -> None:
        move = self.history.append(kind, before, after, why if why.run else self._noted(kind, before, after, why))
        now = self.settle()
        if not any(found.number == move.number and found.settled != VOID for found in self.moves()):
            raise Overtaken(self.name, before, now)

    def _moved_outside(self, before: State, after: State) -> None:
        why = Why("", "an alias was moved in MLflow itself, or by a process that died")
        self.history.append("outside", before, after, self._noted("outside", before, after, why))

    def _noted(self, kind: Kind, before: State, after: State, why: Why) -> Why:
        """A move that no run has decided gets one that says who and why."""
        number = after.champion or before.champion or 0
        facts = {"decision": kind, "model": self.name, "from": before.champion, "to": after.champion}
        files = {DECISION_FILE: {**facts, "by": why.by, "reasons": [why.reason] if why.reason else []}}
        run = self.decisions.record(number, f"{kind}: version {number}", files, {"decision": kind, "by": why.by})
        return replace(why, run=run)

    def _register(self, submission: Submission, content: str) -> Version:
        known = self.by_content(content)
        if known is not None and ROLLED_BACK in known.tags:  # still not to be promoted by itself
            submission = replace(submission, tags={**submission.tags, ROLLED_BACK: known.tags[ROLLED_BACK]})
        made = make_version(self.client, self.name, self.root, submission, content)
        first = self._whole(content)
        if first is not None and first.number < made:  # another process has registered the same meanwhile
            withdraw(self.client, self.name, made)
            return first
        return self.by_number(made)
