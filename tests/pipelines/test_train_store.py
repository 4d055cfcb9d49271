"""Training on nodes that share nothing but a store, and two deaths in it: its weights are those of a shared folder."""

import os
import signal

import pytest
import yaml

from tests.cluster.nodes import running_nodes
from tests.pipelines.train_project import (
    LONG,
    descendants,
    logged_once,
    make_project,
    run_train,
    started,
    wait_for,
    weights,
)


def make_stored(root, store, **changes):
    """A project whose nodes share the store."""
    root.mkdir()
    make_project(root, **changes)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["storage"] = {"uri": str(store), "options": {}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


def training_of(nodes) -> list[int]:
    found = [pid for node in nodes for pid, name in descendants(node.process.pid) if "RayTrainWorker" in name]
    assert len(found) == 2, found
    return found


@pytest.mark.ray
def test_it_survives_a_worker_and_its_driver_and_goes_on_from_an_empty_folder(undisturbed_pair, tmp_path, monkeypatch):
    store = tmp_path / "store"
    first, second = (make_stored(tmp_path / name, store, workers=2, **LONG) for name in ("first", "second"))
    with running_nodes(tmp_path, 2) as (address, nodes):
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        with started(first) as process:
            wait_for(store, "work/train/*/lorweb/step-*/manifest.json", process)
            os.kill(max(training_of(nodes)), signal.SIGKILL)
            wait_for(store, "work/train/*/single_lora/step-*/manifest.json", process)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert not (first / "models").exists() and not list(first.glob(".work/train/*/lorweb"))
        output = run_train(second)
    assert weights(second) == weights(undisturbed_pair)
    assert "curves are sent at the end" in output
    logged_once(second, LONG["steps"])
    (folder,) = second.glob(".work/train/*/lorweb")
    assert {path.name for path in folder.iterdir()} == {"weights", "health", "sheets"}, "no checkpoint travelled here"
    for node in nodes:
        assert list(node.home.iterdir()) == [] and list(node.kept.glob("*/mirrors/*/bases/*/transformer"))
