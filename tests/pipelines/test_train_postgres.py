"""One MLflow server on a real Postgres, and three who use it at once: two trainings and one who promotes."""

import csv
import json
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from lorweb.serving.artifacts import Submission, resolve
from lorweb.serving.registry import Registry, Why
from pipelines._mlflow_run import content_hash
from tests.pipelines.train_project import PATIENCE, make_project, started
from tests.serving.movers import faults_of
from tests.serving.servers import mlflow_server, no_postgres, postgres
from tests.soak.registry_campaign import VERSIONS, at, prepared

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]
STEPS = (140, 160)  # of the two trainings; they tell their runs apart
LIGHT = {"baselines": [], "checkpoint_every": 20, "validate_every": 80, "validation_analogies": 2, "sheet_rows": 1}
CURVE = "select step, value, timestamp from metrics where run_uuid = :run and key = 'lorweb/loss' order by step"
TRAININGS = """
select steps.value, runs.run_uuid, runs.status, made.value from runs
join tags stage on stage.run_uuid = runs.run_uuid and stage.key = 'stage' and stage.value = 'train'
join params steps on steps.run_uuid = runs.run_uuid and steps.key = 'steps'
left join tags made on made.run_uuid = runs.run_uuid and made.key = 'out.models/candidate'
"""


class Database:
    """What stands in the tables of Postgres itself, whatever the server says."""

    def __init__(self, address: str) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        self.engine = create_engine(address, poolclass=NullPool)  # no connection is held while trainings write

    def rows(self, query: str, **values: str) -> list[tuple]:
        from sqlalchemy import text

        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def runs(self) -> list[tuple[int, str, str, str | None]]:
        """(steps, run id, status, hash of the published model) of all trainings, by steps."""
        return sorted((int(steps), run, status, made) for steps, run, status, made in self.rows(TRAININGS))

    def curve(self, run: str) -> list[tuple[int, float]]:
        """(step, loss) as often as it was logged, by step."""
        return [(step, value) for step, value, _ in self.rows(CURVE, run=run)]

    def span(self, run: str) -> tuple[int, int]:
        """Milliseconds since 1970 at which the first and the last loss were sent."""
        times = [sent for *_, sent in self.rows(CURVE, run=run)]
        return min(times), max(times)


def own_losses(project: Path) -> list[float]:
    """Losses by step from the training's own checkpoints, as the stage writes them for DVC, with six digits."""
    with (project / "metrics" / "train_loss.csv").open(encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def training(root: Path, steps: int) -> Path:
    """A project whose training draws other batches and noise than one of other steps."""
    project = make_project(root / f"steps-{steps}", steps=steps, **LIGHT)
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    (project / "params.yaml").write_text(yaml.safe_dump({**params, "seed": steps}), encoding="utf-8")
    return project


def until_both_are_at_steps(database: Database, processes) -> None:
    deadline = time.monotonic() + PATIENCE
    while len([run for _, run, *_ in database.runs() if database.curve(run)]) < len(STEPS):
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no two trainings at steps: {database.runs()}"
        time.sleep(0.1)


def promotions_until_they_end(root: Path, registry: Registry, processes) -> int:
    """Register a candidate and promote it and another one by turns, until no training runs; the champion's number."""
    folder = root / "candidate-new"
    folder.mkdir()
    (folder / "basis.safetensors").write_bytes(b"new" * 1000)
    (folder / "metadata.json").write_text(json.dumps({"number": "new"}))
    number = registry.submit(Submission(folder, {"seen/lorweb/mse_to_truth": 0.05}, {})).number
    assert number == VERSIONS + 1
    deadline, turn = time.monotonic() + PATIENCE, 0
    while not turn or any(process.poll() is None for process in processes):
        assert time.monotonic() < deadline, "the trainings do not end"
        assert registry.promote(registry.by_number((number, 2)[turn % 2]), Why("meanwhile", f"setup-{turn}"))
        turn += 1
        time.sleep(0.3)
    return (number, 2)[(turn - 1) % 2]


def check_runs(database: Database, projects: list[Path]) -> list[str]:
    """One finished run per project, with its own steps, each once, and its own model; returns their ids."""
    runs = database.runs()
    assert [(steps, status) for steps, _, status, _ in runs] == [(steps, "FINISHED") for steps in STEPS]
    curves = [database.curve(run) for _, run, *_ in runs]
    for (steps, _, _, made), logged, project in zip(runs, curves, projects, strict=True):
        assert [step for step, _ in logged] == list(range(1, steps + 1)), "a step is missing, or there twice"
        losses = [loss for _, loss in logged]
        assert losses == pytest.approx(own_losses(project), rel=1e-5), "a run holds what another training measured"
        assert made == content_hash(project / "models" / "candidate")
        assert not (project / "mlflow.db").exists()
    assert not set(curves[0]) & set(curves[1]), "the two trainings cannot be told apart"
    return [run for _, run, *_ in runs]


@pytest.mark.skipif(bool(no_postgres()), reason=no_postgres())
def test_two_trainings_and_promotions_at_once_on_postgres(tmp_path):
    projects = [training(tmp_path, steps) for steps in STEPS]
    root = tmp_path / "registry"
    root.mkdir()
    with ExitStack() as stack:
        address = stack.enter_context(postgres())
        uri = stack.enter_context(mlflow_server(root, address))
        database = Database(address)
        prepared(root, uri)
        stack.enter_context(at(uri))
        registry = Registry("lorweb", root)
        processes = [stack.enter_context(started(project, uri)) for project in projects]
        until_both_are_at_steps(database, processes)
        champion = promotions_until_they_end(root, registry, processes)
        for process in processes:
            output, _ = process.communicate()
            assert process.returncode == 0, output

        runs = check_runs(database, projects)
        spans = [database.span(run) for run in runs]
        first, last = max(begun for begun, _ in spans), min(ended for _, ended in spans)
        amid = [move for move in registry.moves() if first < move.at < last]
        print(f"{len(amid)} promotions in the {last - first} ms in which both trained")
        assert amid and all(move.settled == "done" and move.why.by == "meanwhile" for move in amid), (spans, amid)

        assert not faults_of(root, registry)
        assert registry.by_alias("champion").number == champion
        sent = (root / ("candidate-new" if champion > VERSIONS else "candidate-1")) / "basis.safetensors"
        assert (resolve("models:/lorweb@champion", root) / sent.name).read_bytes() == sent.read_bytes()
        assert len(registry.versions()) == VERSIONS + 1

        registry.client.log_metric(runs[0], "lorweb/loss", dict(database.curve(runs[0]))[1], step=1)
        with pytest.raises(AssertionError, match="a step is missing, or there twice"):
            check_runs(database, projects)
