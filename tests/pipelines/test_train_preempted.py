"""SIGTERM: the stage ends with code 143 after a checkpoint, and the next start goes on bit for bit."""

import os
import signal
import time

import pytest

from lorweb.storage.store import Store
from pipelines._train_stop import PREEMPTED, Sigterm, asked, raise_flag_on_sigterm
from pipelines._train_told import STARTED, Messenger, Told
from tests.pipelines.train_project import (
    ALONE,
    LONG,
    PATIENCE,
    candidate,
    logged_once,
    make_project,
    run_train,
    started,
    wait_for,
    workers_of,
)


def stopped(project, process) -> int:
    """Wait for the end of a stage that got SIGTERM; the step it says it stopped after."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == PREEMPTED == 143, output
    assert "Traceback" not in output and "run the same command again to go on" in output
    step = int(output.split("stopped by SIGTERM after step ")[1].split()[0])
    (folder,) = project.glob(".work/train/*/lorweb")
    assert (folder / f"step-{step:08d}" / "manifest.json").is_file()
    assert not (project / "models").exists()
    return step


@pytest.mark.ray
def test_a_driver_that_is_told_to_stop(undisturbed, tmp_path):
    import mlflow

    project = make_project(tmp_path, **ALONE)
    with started(project) as process:
        wait_for(project, ".work/train/*/lorweb/step-*", process)
        os.kill(process.pid, signal.SIGTERM)
        assert 10 <= stopped(project, process) <= LONG["steps"]
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("lorweb").experiment_id])
    assert run.info.status == "KILLED"
    run_train(project)
    assert candidate(project) == candidate(undisturbed)
    logged_once(project, LONG["steps"], ["lorweb"])


@pytest.mark.ray
def test_one_of_two_workers_that_is_told_to_stop(undisturbed_pair, tmp_path):
    project = make_project(tmp_path, workers=2, **ALONE)
    with started(project) as process:
        wait_for(project, ".work/train/*/lorweb/step-*", process)
        os.kill(max(workers_of(process)), signal.SIGTERM)
        assert 10 <= stopped(project, process) <= LONG["steps"]
    run_train(project)
    assert candidate(project) == candidate(undisturbed_pair)
    logged_once(project, LONG["steps"], ["lorweb"])


def test_before_and_after_training_the_driver_ends_at_once(capsys):
    with Sigterm() as sigterm, pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143 and sigterm.came and "run the same command again" in capsys.readouterr().err


@pytest.fixture
def told(tmp_path):
    return Told(Store(str(tmp_path)), "told", 0.05)


def until(true) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_during_training_the_driver_leaves_word_for_the_workers(told):
    before = signal.getsignal(signal.SIGTERM)
    told.say(STARTED, "1")
    with Sigterm() as sigterm, sigterm.passed_on(told), Messenger(told, True) as first, Messenger(told, False) as other:
        until(lambda: sigterm.heeded)
        assert not asked(first)()
        os.kill(os.getpid(), signal.SIGTERM)
        assert sigterm.came
        until(asked(first))
        assert not asked(other)()
    assert signal.getsignal(signal.SIGTERM) == before


def test_while_no_worker_listens_the_driver_ends_at_once(told):
    with Sigterm() as sigterm, sigterm.passed_on(told), pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143


def test_a_worker_that_gets_the_signal_stops_training_and_lives(told):
    from pipelines import _train_stop

    before = signal.getsignal(signal.SIGTERM)
    try:
        raise_flag_on_sigterm()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked(Messenger(told, False))()
    finally:
        signal.signal(signal.SIGTERM, before)
        _train_stop._flag.clear()
