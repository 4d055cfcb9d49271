"""The model registry: versions by content, and three aliases that survive a crash between two moves.

    candidate   the version made last        champion   the version that is served        previous   the champion before

A move of `champion` first writes its intent (`pending` on the registered model), then moves the aliases, then deletes
the intent. Every step may be repeated, so `recover` finishes whatever a killed process had begun, and a reader always
finds one whole champion.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lorweb.serving.artifacts import Submission, content_hash, log_model, resolve
from lorweb.serving.tracking import experiment_id, open_client

ALIASES: Final = ("candidate", "champion", "previous")
PENDING: Final = "pending"
CONTENT: Final = "content_sha256"
ROLLED_BACK: Final = "rolled_back"
EVIDENCE: Final = "evidence_run"  # run whose evidence.json holds what a version was judged by


@dataclass(frozen=True)
class Version:
    """One version of the registered model."""

    number: int
    content: str
    aliases: tuple[str, ...]
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)


class Registry:
    """One registered model. Raises ValueError when the registry cannot be reached; see `open_client`."""

    def __init__(self, name: str, root: Path = Path(), create: bool = False) -> None:
        self.name, self.root = name, root
        self.client = open_client(root, create)

    def versions(self) -> list[Version]:
        """All versions, oldest first; empty if the model was never registered."""
        aliases = self._aliases()
        found = self.client.search_model_versions(f"name='{self.name}'")
        versions = [
            Version(
                int(v.version),
                v.tags.get(CONTENT, ""),
                tuple(a for a in ALIASES if aliases.get(a) == int(v.version)),
                v.run_id or "",
                dict(v.tags),
            )
            for v in found
        ]
        return sorted(versions, key=lambda version: version.number)

    def by_alias(self, alias: str) -> Version | None:
        """The version that an alias names, or None."""
        return next((v for v in self.versions() if alias in v.aliases), None)

    def by_content(self, content: str) -> Version | None:
        """The version with these bytes, or None."""
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
        """What the version was judged by when it was promoted (`record_evidence`), or None."""
        if EVIDENCE not in version.tags:
            return None
        import mlflow

        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(
                run_id=version.tags[EVIDENCE], artifact_path="evidence.json", dst_path=folder
            )
            content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        return content

    def submit(self, submission: Submission) -> Version:
        """Register a candidate and point the alias `candidate` at it; known bytes get no new version.

        Raises:
            FileNotFoundError: the folder has no basis.safetensors or no metadata.json.
        """
        content = content_hash(submission.folder)
        version = self.by_content(content) or self._register(submission, content)
        self._set_alias("candidate", version.number)
        return self.by_number(version.number)

    def record_evidence(
        self, version: Version, run_name: str, evidence: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """Keep a decision and its numbers in a run of their own; returns its id. Runs are the registry's history."""
        run = self.client.create_run(
            experiment_id(self.client, self.root), run_name=run_name, tags={**tags, "version": str(version.number)}
        )
        self.client.log_dict(run.info.run_id, dict(evidence), "evidence.json")
        self.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def tag(self, version: Version, key: str, value: str) -> None:
        """Set one tag of a version."""
        self.client.set_model_version_tag(self.name, str(version.number), key, value)

    def promote(self, version: Version, evidence_run: str | None = None) -> None:
        """Make a version the champion and the champion before it `previous`. Repeating it changes nothing."""
        self.recover()
        if evidence_run:
            self.tag(version, EVIDENCE, evidence_run)
        if ROLLED_BACK in version.tags:
            self.client.delete_model_version_tag(self.name, str(version.number), ROLLED_BACK)
        champion = self.by_alias("champion")
        if champion is None or champion.number != version.number:
            self._move(champion.number if champion else None, version.number)

    def rollback(self) -> Version:
        """Swap champion and previous; the version that goes is marked, so that it is not promoted again by itself.

        Raises:
            ValueError: there is no champion or no previous version.
        """
        self.recover()
        champion, previous = self.by_alias("champion"), self.by_alias("previous")
        if champion is None or previous is None or champion.number == previous.number:
            raise ValueError(f"{self.name} has no previous champion to roll back to; see `lorweb registry list`")
        self.tag(champion, ROLLED_BACK, "true")
        if ROLLED_BACK in previous.tags:
            self.client.delete_model_version_tag(self.name, str(previous.number), ROLLED_BACK)
        self._move(champion.number, previous.number)
        return self.by_number(previous.number)

    def recover(self) -> bool:
        """Finish a move that a killed process had begun; true if there was one."""
        intent = self._model_tags().get(PENDING)
        if intent is None:
            return False
        move = json.loads(intent)
        self._carry_out(move["from"], move["to"])
        return True

    def _move(self, old: int | None, new: int) -> None:
        self.client.set_registered_model_tag(self.name, PENDING, json.dumps({"from": old, "to": new}))
        self._carry_out(old, new)

    def _carry_out(self, old: int | None, new: int) -> None:
        if old is not None:
            self._set_alias("previous", old)
        self._set_alias("champion", new)
        self.client.delete_registered_model_tag(self.name, PENDING)

    def _set_alias(self, alias: str, number: int) -> None:
        self.client.set_registered_model_alias(self.name, alias, str(number))

    def _register(self, submission: Submission, content: str) -> Version:
        import mlflow

        uri = log_model(submission, {CONTENT: content}, experiment_id(self.client, self.root))
        tags = {**submission.tags, CONTENT: content}  # written with the version itself: no crash can part them
        version = mlflow.register_model(uri, self.name, tags=tags)
        return self.by_number(int(version.version))

    def _aliases(self) -> dict[str, int]:
        model = self._model()
        return {alias: int(number) for alias, number in model.aliases.items()} if model is not None else {}

    def _model_tags(self) -> dict[str, str]:
        model = self._model()
        return dict(model.tags) if model is not None else {}

    def _model(self) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
