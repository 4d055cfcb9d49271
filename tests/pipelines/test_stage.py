"""What the stages share: publishing survives kills, metrics are whole, faults are sentences."""

import json
import os
import random
import signal
import threading
import time
from contextlib import contextmanager

import joblib
import pytest

from pipelines import _stage
from pipelines._metrics import count
from pipelines._stage import StageFailed, publishing, seed_of, stage, swap_into_place, write_text


@pytest.fixture(autouse=True)
def in_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def publish(version, files=5):
    with publishing(_stage.Path("data/out"), "made") as folder:
        for i in range(files):
            (folder / f"{i}.txt").write_text(str(version))


def published(folder):
    return {p.name: p.read_text() for p in folder.iterdir()}


def test_a_new_folder_replaces_the_old_whole(in_project):
    publish(1, files=5)
    publish(2, files=3)
    assert published(in_project / "data/out") == {f"{i}.txt": "2" for i in range(3)}
    assert not list((in_project / ".work/made/publish").iterdir())


def test_a_body_that_fails_leaves_the_old_folder(in_project):
    publish(1)
    with pytest.raises(OSError, match="disk full"), publishing(_stage.Path("data/out"), "made") as folder:
        (folder / "0.txt").write_text("2")
        raise OSError("disk full")
    assert published(in_project / "data/out") == {f"{i}.txt": "1" for i in range(5)}
    publish(3)
    assert set(published(in_project / "data/out").values()) == {"3"}


@pytest.mark.slow
def test_killed_at_any_moment_the_folder_is_whole(in_project):
    publish(0)
    seen = set()
    for round_ in range(12):
        child = os.fork()
        if child == 0:
            for version in range(1, 10_000):
                publish(f"{round_}.{version}")
        time.sleep(random.Random(round_).uniform(0.01, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = published(in_project / "data/out")
        assert len(found) == 5 and len(set(found.values())) == 1, found
        seen |= set(found.values())
    assert len(seen) > 3, "the children were killed before they published anything"


def test_without_an_atomic_exchange_a_fault_puts_the_old_folder_back(in_project, monkeypatch):
    monkeypatch.setattr(_stage, "_exchange", lambda one, other: False)
    publish(1)
    publish(2)
    assert set(published(in_project / "data/out").values()) == {"2"}
    with pytest.raises(OSError):
        swap_into_place(in_project / "missing", in_project / "data/out")
    assert set(published(in_project / "data/out").values()) == {"2"}


def test_write_text_leaves_no_partial_file(in_project):
    write_text(in_project / "a/b.json", "one")
    write_text(in_project / "a/b.json", "two")
    assert [p.name for p in (in_project / "a").iterdir()] == ["b.json"]
    assert (in_project / "a/b.json").read_text() == "two"


def test_metrics_are_written_only_by_a_stage_that_ends_well(in_project, capsys):
    with stage("made") as metrics:
        pace = {"rows": 3, "rows_per_s": 12.5, "of_light": 0.91, "light_rows_per_s": 13.7}
        metrics.update(count(3, 2, [{"check": "truncated"}], {"read": pace, "again": {"rows": 0}}))
    told = json.loads((in_project / "metrics/made.json").read_text())
    assert told["seconds"] >= 0 and told["seconds_per_kept"] == round(told["seconds"] / 2, 4)
    said = capsys.readouterr().err
    assert said == (
        f"made: {told['seconds']} s; 3 rows, 2 kept; 1 rejected (truncated 1); "
        "read 12.5 rows/s, 91% of its speed of light (13.7)\n"
    )
    assert {k: told[k] for k in ("rows_in", "kept", "rejected")} == {
        "rows_in": 3,
        "kept": 2,
        "rejected": {"truncated": 1},
    }
    with pytest.raises(SystemExit, match="worse: no source; add one"), stage("worse"):
        raise StageFailed("no source; add one")
    with pytest.raises(ZeroDivisionError), stage("worse"):
        print(1 / 0)
    assert not (in_project / "metrics/worse.json").exists()


def test_of_two_that_run_one_stage_in_one_folder_the_second_waits(in_project, capsys):
    began, end, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with stage("made") as metrics:
            began.set()
            end.wait(30)
            order.append("first")
            metrics["by"] = "first"

    def second() -> None:
        with stage("made") as metrics:
            order.append("second")
            metrics["by"] = "second"

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert began.wait(30)
    with stage("other"):
        order.append("other")
    threads[1].start()
    said, last = "", time.monotonic() + 30
    while "made: another process runs this stage in this folder; waiting for it" not in said:
        assert time.monotonic() < last, said
        said += capsys.readouterr().err
    end.set()
    for thread in threads:
        thread.join(30)
    assert order == ["other", "first", "second"]
    assert json.loads((in_project / "metrics/made.json").read_text())["by"] == "second"


def test_the_time_that_a_stage_waits_is_not_its_own(in_project, monkeypatch):
    clock = [0.0]

    @contextmanager
    def waited(*_, **__):
        clock[0] += 1000
        yield

    monkeypatch.setattr(_stage, "locked", waited)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with stage("made"):
        clock[0] += 5
    assert json.loads((in_project / "metrics/made.json").read_text())["seconds"] == 5


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(0), SystemExit(1)])
def test_ctrl_c_is_a_sentence_and_a_code_that_no_shell_takes_for_success(in_project, capsys, stop):
    """A trainer of Ray ends the process with 0 or 1."""
    with pytest.raises(SystemExit) as raised, stage("made"):
        raise stop
    assert raised.value.code == 130 and not (in_project / "metrics").exists()
    assert capsys.readouterr().err == ("made: stopped; what is finished is kept, run the same command again to go on\n")
    with pytest.raises(SystemExit) as raised, stage("made"):
        raise SystemExit(143)  # a stage that says itself why
    assert raised.value.code == 143 and not capsys.readouterr().err


def test_seeds_come_from_names_alone():
    assert seed_of("edit", 0, "colour/x") == 4258463288  # as ever: seeds are part of stored ids
    assert seed_of("a", 1) == seed_of("a", 1) != seed_of("a", 2)


def test_a_cluster_that_does_not_answer_is_a_sentence(monkeypatch):
    ray = pytest.importorskip("ray")

    def refuse(**settings):
        raise ConnectionError(f"nobody at {settings['address']}")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # another test's session may be running; leave it alone
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(StageFailed, match=r"no Ray at RAY_ADDRESS=10\.0\.0\.1:6379 .*unset RAY_ADDRESS"):
        _stage.start_ray()


@pytest.mark.parametrize(("lent", "announced"), [(1, 4), (2, 4), (12, 12)])
def test_a_local_ray_has_the_cores_that_the_container_lends(monkeypatch, lent, announced):
    ray = pytest.importorskip("ray")
    asked = {}
    monkeypatch.setattr(joblib, "cpu_count", lambda: lent)
    monkeypatch.setattr(ray, "init", lambda *_, **settings: asked.update(settings))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert _stage.start_ray() and asked["num_cpus"] == announced
