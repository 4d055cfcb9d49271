"""The tracking server goes away and comes back: no curve and no sheet is lost, none is there twice, the run is one."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lorweb.config import load_params
from lorweb.training.loop import CURVES, History, Stopped
from pipelines._mlflow_run import StageFacts, mlflow_run
from pipelines._stage import StageFailed
from pipelines._train_log import CurveLog
from pipelines._train_publish import deliver, finished_histories, publish
from pipelines._train_resume import remember_run
from pipelines._train_worker import train_one
from pipelines.train import BASELINES, CANDIDATE, make_plan, tracked
from tests.pipelines.train_project import PATIENCE, make_project

SECRET = "no-file-may-hold-this"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def server(folder: Path, port: int):
    """A real MLflow server; it dies by SIGKILL at the end, with all its processes."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "kept")]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sheets_of(run) -> list[tuple[str, int]]:
    """(kind of picture, step) of all images of the run, as its page shows them."""
    names = [Path(found.path).name for found in run.client.list_artifacts(run.run_id, "images")]
    return sorted((name.split("+")[0], int(name.split("+")[2])) for name in names if name.endswith(".png"))


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_has_everything_once(tmp_path, monkeypatch, capsys):
    project, port = make_project(tmp_path / "project", baselines=[]), free_port()
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    plan, facts = make_plan(load_params()), StageFacts("train", {}, [Path("data/encoded")])
    asks = iter(range(1000))
    with server(tmp_path, port), mlflow_run(facts) as run:
        plan = replace(plan, run_id=run.run_id)
        remember_run(plan, run.run_id)
        with pytest.raises(Stopped):
            train_one(plan, "lorweb", lambda: next(asks) >= 4 + 5 + 4 + 2)
        assert len(run.client.get_metric_history(run.run_id, "lorweb/loss")) == 7
        assert sheets_of(run) == [("lorweb~sheet", 5)]

    with ExitStack() as back:
        with tracked(plan, facts) as run:
            assert run.run_id == plan.run_id and "training goes on" in capsys.readouterr().err
            with pytest.warns(UserWarning, match=r"MLflow did not take .*will be sent later"):
                train_one(plan, "lorweb")
            histories = finished_histories(plan)
            publish(plan, histories, CANDIDATE, BASELINES)
            with pytest.raises(StageFailed, match=r"published, but MLflow did not take .*nothing is trained twice"):
                deliver(run, plan, histories, [CANDIDATE, BASELINES])
            back.enter_context(server(tmp_path, port))
            deliver(run, plan, histories, [CANDIDATE, BASELINES])
            deliver(run, plan, histories, [CANDIDATE, BASELINES])
        logged = run.client.get_metric_history(run.run_id, "lorweb/loss")
        assert sorted((m.step, m.value) for m in logged) == list(enumerate(histories["lorweb"].curves["loss"], 1))
        assert sheets_of(run) == [("lorweb~sheet", 5), ("lorweb~sheet", 10)]
        (only,) = run.client.search_runs([run.client.get_experiment_by_name("lorweb").experiment_id])
        assert only.info.run_id == plan.run_id and only.info.status == "FINISHED"
    written = {path.name: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert b"://***@127.0.0.1" in written["mlflow_run.json"] and b"://***@127.0.0.1" in written["state.json"]
    assert not [name for name, content in written.items() if SECRET.encode() in content]


class Lossy:
    """A client whose answer to one call is lost after the server has taken it."""

    def __init__(self, client, lost):
        self.client, self.calls, self.lost = client, 0, lost

    def __getattr__(self, name):
        return getattr(self.client, name)

    def log_batch(self, run_id, metrics):
        self.client.log_batch(run_id, metrics=metrics)
        self.calls += 1
        if self.calls == self.lost:
            raise ConnectionError("no answer")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_answer_makes_no_step_twice(tmp_path, monkeypatch, lost):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines._train_log._CHUNK", 7)
    history = History({name: [float(step) for step in range(5)] for name in CURVES})
    with mlflow_run(StageFacts("train", {}, [])) as run:
        log = CurveLog(Lossy(run.client, lost), run.run_id, "lorweb")
        with pytest.raises(ConnectionError):
            log.send(history)
        log.send(history)
        for name in ("loss", "gradient_norm"):
            logged = run.client.get_metric_history(run.run_id, f"lorweb/{name}")
            assert sorted(metric.step for metric in logged) == [1, 2, 3, 4, 5]


def test_a_first_start_without_its_server_is_refused(tmp_path, monkeypatch):
    project = make_project(tmp_path)
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with (
        pytest.raises(ValueError, match=r"does not answer .*start it"),
        tracked(make_plan(load_params()), StageFacts("train", {}, [])),
    ):
        pass
