"""What a training worker tells the outside: curves to MLflow, progress to the driver, who shows it."""

import json
import os
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lorweb.serving.tracking import check_reachable
from lorweb.training.health import bounds_of, first_alarms
from lorweb.training.limits import Alarms
from lorweb.training.loop import PARTS, History
from lorweb.training.step import StepResult
from pipelines._train_plan import TrainPlan

LOGGED: Final = ("loss", "gradient_norm", "router_gradient_norm", *PARTS)
_CHUNK: Final = 1000  # metrics that one call of MLflow takes
_REFRESH: Final = 0.5  # s between two words on progress


class CurveLog:
    """Sends a history, and the sheets beside it, to one MLflow run so that nothing is logged twice, whoever was first.

    The history travels in the checkpoints and the sheets lie in the work folder: they are the spool. The run is asked
    what it already has, and again after every failure, since a lost answer may hide a batch that was taken.
    """

    def __init__(self, client: Any, run_id: str, variant: str, bounds: Alarms | None = None) -> None:
        self.client, self.run_id, self.variant, self.bounds = client, run_id, variant, bounds
        self._tagged: set[str] = set()
        self._known: dict[str, set[int]] = {}
        self._shown: set[int] | None = None

    def send(self, history: History) -> None:
        """Log everything in the history that the run does not have yet, and tag the run with its first alarms."""
        from mlflow.entities import Metric

        fresh = [(name, step, value) for name, step, value in _points(history) if step not in self._logged(name)]
        now = int(time.time() * 1000)
        for start in range(0, len(fresh), _CHUNK):
            chunk = fresh[start : start + _CHUNK]
            metrics = [Metric(f"{self.variant}/{name}", value, now, step) for name, step, value in chunk]
            try:
                self.client.log_batch(self.run_id, metrics=metrics)
            except BaseException:
                self._known.clear()
                raise
            for name, step, _ in chunk:
                self._known[name].add(step)
        for alarm in first_alarms(history.health, self.bounds):
            if alarm.name not in self._tagged:
                self.client.set_tag(self.run_id, f"alarm.{self.variant}.{alarm.name}", alarm.sentence)
                self._tagged.add(alarm.name)

    def send_sheets(self, folder: Path) -> None:
        """Show the sheets of a folder among the run's images, by step; those it has already are not sent again."""
        from PIL import Image

        if self._shown is None:
            own = re.compile(rf"images/{self.variant}.sheet.step.(\d+).timestamp.*compressed\.webp")  # written last
            found = (own.fullmatch(artifact.path) for artifact in self.client.list_artifacts(self.run_id, "images"))
            self._shown = {int(match[1]) for match in found if match}
        for path in sorted(folder.glob("step-*.png")):
            step = int(path.stem.removeprefix("step-"))
            if step not in self._shown:
                with Image.open(path) as sheet:
                    self.client.log_image(self.run_id, sheet, key=f"{self.variant}/sheet", step=step, synchronous=True)
                self._shown.add(step)

    def _logged(self, name: str) -> set[int]:
        if name not in self._known:
            found = self.client.get_metric_history(self.run_id, f"{self.variant}/{name}")
            self._known[name] = {metric.step for metric in found}
        return self._known[name]


def _points(history: History) -> list[tuple[str, int, float]]:
    """(name, steps done, value) of every curve, validation loss and health number."""
    points = [(name, step, value) for name in LOGGED for step, value in enumerate(history.curves[name], start=1)]
    points += [(f"validation/{row['split']}", row["step"], row["loss"]) for row in history.validation]
    for row in history.health:
        points += [(f"router/{name}", row["step"], value) for name, value in row.items() if name != "step"]
    return points


def curve_log(plan: TrainPlan, variant: str) -> CurveLog | None:
    """A worker's; None where MLflow is a file and nodes share none: then the driver sends all at the end."""
    from mlflow import MlflowClient

    if plan.store is not None and not_shared(plan.tracking):
        return None
    return CurveLog(MlflowClient(plan.tracking), plan.run_id, variant, bounds_of(plan.config, variant))


def not_shared(tracking: str) -> bool:
    """Whether an address of MLflow is that of a file, which other machines do not see."""
    return "://" not in tracking or tracking.startswith(("sqlite:", "file:"))


class Progress:
    """Says where a run stands: variant, step, steps, loss, steps per second, newest validation losses."""

    def __init__(self, say: Callable[[str], None], variant: str, steps: int) -> None:
        self.say, self.variant, self.steps = say, variant, steps
        self.losses: dict[str, float | None] = {}
        self._started: tuple[float, int] | None = None
        self._written = 0.0

    def stepped(self, step: int, result: StepResult) -> None:
        """At most one word per half second."""
        now = time.monotonic()
        first_time, first_step = self._started = self._started or (now, step)
        if now - self._written < _REFRESH and step != self.steps:
            return
        self._written = now
        rate = (step - first_step) / (now - first_time) if now > first_time else 0.0
        facts = {"variant": self.variant, "step": step, "steps": self.steps, "loss": result.loss, "rate": rate}
        self.say(json.dumps({**facts, **self.losses}))

    def measured(self, history: History) -> None:
        """Keep the newest validation losses for the next line."""
        self.losses = {split: history.last(split) for split in ("seen", "unseen")}


def send_or_warn(log: CurveLog, history: History, sheets: Path, tracking: str) -> None:
    """A tracking server that is down for a while must not cost the training; the rest is sent later."""
    from mlflow.exceptions import MlflowException

    reason: Exception | None = None
    try:
        check_reachable(tracking, create=True, patience=0.0)  # a few seconds at most: the other workers wait
    except ValueError as error:
        reason = error
    else:
        try:
            log.send(history)
            log.send_sheets(sheets)
        except (MlflowException, OSError) as error:
            reason = error
    if reason is not None:
        warnings.warn(
            f"MLflow did not take the curves up to step {history.step} of {log.variant} ({reason}); they are in the "
            "checkpoint and will be sent later",
            stacklevel=2,
        )


def be_brief_with_mlflow() -> None:
    """Give up on a silent server after seconds instead of minutes: what it missed is sent later."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # s
