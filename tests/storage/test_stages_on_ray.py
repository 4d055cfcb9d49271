"""Stages on a real Ray cluster whose nodes share nothing but a store, beside the same stages on one machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from lorweb.data.shards import read_table
from lorweb.records import PAIR
from lorweb.storage import Store
from pipelines import filter as filter_stage
from pipelines._results import read_batch
from pipelines._rows import in_process
from tests.pipelines.conftest import generated  # noqa: F401 - a fixture
from tests.pipelines.projects import ROOT, contents, write_params

POOL = {"actors": 2, "cpus": 1.6, "gpus": 0, "batch_size": 1}  # a node has room for one
OUTS = ("data/candidates", "data/pairs")

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Path]]]:
    """Address of a cluster, and the folders in which its two working nodes keep what they fetched."""
    monkeypatch.delenv("PYTHONPATH", raising=False)  # code travels
    cluster, folders = Cluster(), [tmp_path / "node_a", tmp_path / "node_b"]
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False)
        for folder in folders:
            folder.mkdir()
            cluster.add_node(num_cpus=3, env_vars={"LORWEB_NODE_FOLDER": str(folder)})
        yield cluster.address, folders
    finally:
        cluster.shutdown()


def start(stage: str, folder: Path, address: str, tmp_path: Path) -> "subprocess.Popen[str]":
    """A driver on a node of its own, which has an empty folder beside what DVC gave it."""
    environment = os.environ | {"RAY_ADDRESS": address, "LORWEB_NODE_FOLDER": str(tmp_path / "driver")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{stage}"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )


def put_rows(store: Store) -> int:
    return sum("/rows-" in name for name in store.find("work"))


def test_the_same_bytes_although_actors_and_a_driver_are_killed(generated, nodes, tmp_path, monkeypatch):  # noqa: F811
    address, folders = nodes
    calm = tmp_path / "calm"
    shutil.copytree(generated, calm)
    monkeypatch.chdir(calm)
    filter_stage.main(in_process)
    expected = {out: contents(calm / out) for out in OUTS}

    store = Store(str(tmp_path / "store"))
    project = tmp_path / "project"
    shutil.copytree(calm / "data/sources", project / "data/sources")
    shared = {"storage": {"uri": store.uri}}
    editors = [{"editor": "embedded", "tasks": ["colour/hue-*", "geometry/mirror"], "pool": POOL}]
    write_params(project, {**shared, "generate": {"editors": editors}})

    driver = start("generate", project, address, tmp_path)
    wait_for_rows(store, driver, 4)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not list((project / ".work").rglob("rows-*")), "the driver heard of rows before it died"
    shutil.rmtree(project / ".work")  # as on another node

    driver = start("generate", project, address, tmp_path)
    wait_for_rows(store, driver, put_rows(store) + 4)
    actors = [p for p in psutil.Process().children(recursive=True) if "MapWorker" in " ".join(p.cmdline())]
    for actor in actors[:1]:
        actor.kill()
    killed_at = put_rows(store)
    ends_well(driver)
    assert contents(project / OUTS[0]) == expected[OUTS[0]]
    total = len(read_table(project / OUTS[0], PAIR, ["id"]))
    keys = [key for path in (project / ".work").rglob("rows-*") for key in read_batch(path)["key"].to_pylist()]
    assert actors and killed_at < total == len(keys) == len(set(keys)) == put_rows(store)

    ends_well(start("filter", project, address, tmp_path))
    assert contents(project / OUTS[1]) == expected[OUTS[1]]
    for folder in folders:
        fetched = {path.name for path in folder.rglob("mirrors/*/data/*/part-*.parquet")}
        assert fetched == {"part-00000.parquet"}, "a node did no work, or read what it should not see"


def wait_for_rows(store: Store, driver: "subprocess.Popen[str]", number: int) -> None:
    deadline = time.monotonic() + 240
    while put_rows(store) < number:
        assert driver.poll() is None and time.monotonic() < deadline, driver.stderr and driver.stderr.read()
        time.sleep(0.02)


def ends_well(driver: "subprocess.Popen[str]") -> None:
    _, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
