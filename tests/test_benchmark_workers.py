"""The slow cases of the benchmark of the training step: caches, N, options, and groups of processes."""

import json

import pytest
import torch

from tests.benchmark_cases import module, put_on_the_path


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_the_path(monkeypatch)
    monkeypatch.setattr(module("train_step"), "quiet", lambda: None)  # it is for good, and other tests want to hear


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_other_cases_give_their_rows(tmp_path, one_thread):
    script, path = module("train_step"), tmp_path / "rows.json"
    script.main(["--quick", "--only", "caches", "loras", "workers", "options", "--json", str(path)])
    found = {(row["unit"], row["target"]) for row in json.loads(path.read_text())}
    grown = {(f"{what}, N {n} / N 8", n / 8) for what in ("time", "peak bytes") for n in (16, 32, 64)}
    saved = {
        (f"{what}, {option} / plain", None)
        for what in ("time", "peak bytes")
        for option in ("gradient_checkpointing", "accumulate 4", "both")
    }
    assert found == {
        ("time, encoded / encoders in the step", None),
        ("time, 2 workers x 1 thread / 1 worker x 1 thread", None),
        *grown,
        *saved,
    }


@pytest.mark.slow
def test_one_worker_and_two_take_the_same_step():
    workers, training = module("_workers"), module("_training")
    scene = ("wide", training.Shape(heads=1, double=1, single=1, cells=4, batch=2, query=48), "float32")
    losses = {}
    for count in (1, 2):
        with workers.crew(workers.Group(count, 1, "cpu", scene)) as crew:
            losses[count] = [crew() for _ in range(3)]
    assert losses[2] == pytest.approx(losses[1], rel=1e-5) and len(set(losses[1])) == 3


@pytest.mark.slow
def test_a_dead_worker_is_said():
    workers = module("_workers")
    with pytest.raises(RuntimeError, match="a worker is dead"), workers.crew(workers.Group(1, 1, "cpu", ("wide", 3))):
        pass
