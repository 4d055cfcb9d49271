"""What was decided about versions, and by what: one MLflow run each, with JSON files."""

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lorweb.serving.history import VOID, Move
from lorweb.serving.orphans import owner_tags
from lorweb.serving.reachable import first_line
from lorweb.serving.tracking import experiment_id, patiently, tracking_uri

DECISION_FILE: Final = "decision.json"
EVIDENCE_FILE: Final = "evidence.json"  # the numbers behind it, to compare the next candidate with
PAGE: Final = 200


class Decisions:
    """The decisions on one registered model."""

    def __init__(self, client: Any, model: str, root: Path) -> None:
        self.client, self.model, self.root = client, model, root

    def record(self, number: int, title: str, files: Mapping[str, Mapping[str, Any]], tags: Mapping[str, str]) -> str:
        """Keep JSON files about version `number` in a run of their own; returns its id."""
        facts = {**tags, **owner_tags(), "registered_model": self.model, "version": str(number)}
        run = self.client.create_run(experiment_id(self.client, self.root), run_name=title, tags=facts)
        for name, content in files.items():
            self.client.log_dict(run.info.run_id, dict(content), name)
        self.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def read(self, run: str, name: str) -> dict[str, Any] | None:
        """A file of a decision's run; None where there is no run, or it is not there any more.

        Raises:
            ValueError: it is there and cannot be read; says what to do.
        """
        if not run or not self._holds(run, name):
            return None
        import mlflow
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as folder:
            try:
                path = patiently(
                    tracking_uri(self.root),
                    mlflow.artifacts.download_artifacts,
                    run_id=run,
                    artifact_path=name,
                    dst_path=folder,
                )
                content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            except (MlflowException, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{name} of the decision in run {run} cannot be read ({first_line(error)}); restore it from a "
                    "copy, or delete it from the run: it is then as if it had not been recorded"
                ) from error
        return content

    def _holds(self, run: str, name: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return any(file.path == name for file in self.client.list_artifacts(run))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def refusals(self) -> list[Any]:
        """Runs of refused candidates, oldest first."""
        experiment = experiment_id(self.client, self.root)
        wanted = f"tags.decision = 'refused' and tags.registered_model = '{self.model}' and status = 'FINISHED'"
        found, token = [], None
        while True:
            page = self.client.search_runs([experiment], wanted, max_results=PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda run: run.info.start_time)


def moved_event(move: Move) -> dict[str, Any]:
    """A move as the history shows it; what did not count, or is not finished, says so."""
    note = {VOID: " (void: another process came first)", "": " (not finished)"}.get(move.settled, "")
    return {
        "at": _when(move.at),
        "what": f"{move.kind}{note}",
        "from": move.before.champion,
        "to": move.after.champion,
        "by": move.why.by,
        "why": move.why.reason,
        "run": move.why.run,
    }


def refused_event(run: Any) -> dict[str, Any]:
    """A refused candidate as the history shows it: `from` was and stayed champion, `to` did not become it."""
    tags = run.data.tags
    return {
        "at": _when(run.info.start_time),
        "what": "refused",
        "from": int(tags["champion"]) if tags.get("champion", "").isdigit() else None,
        "to": int(tags["version"]),
        "by": tags.get("by", ""),
        "why": tags.get("reasons", ""),
        "run": run.info.run_id,
    }


def foreign_event(number: int, at: int) -> dict[str, Any]:
    """A version of the history's list that lorweb did not write: it moves nothing."""
    note = f"version {number} of the history was made in MLflow itself and is no move"
    return {"at": _when(at), "what": "ignored", "from": None, "to": None, "by": "", "why": note, "run": ""}


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
