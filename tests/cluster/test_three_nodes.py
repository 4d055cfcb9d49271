"""The whole road on three machines that share nothing but an S3 server: DVC hands each stage over as a job.

Machines lose their power in the middle of a stage, the head between two, and the outs are byte for byte those of a run
without a cluster. All traffic stays on a bridge between network namespaces that this module makes.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3fs
import yaml

from tests.cluster.head import TOKEN
from tests.cluster.machines import HUB, Machine, network, no_machines
from tests.cluster.whole import PATIENCE, STAGES, call, clone, environment, outs
from tests.conftest import ENVIRONMENT
from tests.serving.servers import mlflow_server, no_postgres, postgres
from tests.versions.servers import BUCKET, s3_server

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(4 * PATIENCE)]
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
AT_WORK = {"train": "RayTrainWorker"}  # in the title of a worker process; of other stages:
ROWS_AT_WORK = "MapWorker"
DONE = {"train": "*/lorweb/step-*/manifest.json"}  # in the store when a part of the work is safe; of other stages:
ROWS_DONE = "**/rows-*"


def until(true: Callable[[], bool]) -> None:
    """Wait for something to come true."""
    last = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < last, f"it did not come true in {PATIENCE} s"
        time.sleep(0.2)


@dataclass(frozen=True)
class Cluster:
    """A head without CPUs for work, and two workers; all of them on."""

    head: Machine
    workers: list[Machine]
    told: dict[str, str]  # variables of a submitter
    storage: dict[str, Any]  # for params.yaml

    def working(self, stage: str, store: str, submitter: "subprocess.Popen[bytes]") -> Machine:
        """The first machine that is seen to work for a stage when something of it is in the store already."""
        mark, found = AT_WORK.get(stage, ROWS_AT_WORK), []
        files = s3fs.S3FileSystem(
            key=KEYS["AWS_ACCESS_KEY_ID"],
            secret=KEYS["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.storage["options"]["endpoint_url"],
            use_listings_cache=False,
        )

        def look() -> bool:
            assert submitter.poll() is None, f"{stage} ended before a machine was seen to work for it"
            found[:] = [one for one in self.workers if any(mark in title for title in one.titles())]
            return bool(found) and bool(files.glob("/".join((store, "work", stage, DONE.get(stage, ROWS_DONE)))))

        until(look)
        return found[0]

    def logs(self) -> str:
        return "\n".join(one.log.read_text(errors="replace")[-1500:] for one in (self.head, *self.workers))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Outs of the project without a cluster."""
    project = clone(tmp_path_factory.mktemp("alone") / "project", "smoke")
    call(project, "dvc", "repro")
    return outs(project)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Machines, an S3 server with a bucket, MLflow on Postgres."""
    if why := no_machines() or no_postgres():
        pytest.skip(f"three machines on one: {why}")
    logs = tmp_path_factory.mktemp("logs")
    with network(("head", "one", "two")) as places, ExitStack() as stack:
        storage = {
            "uri": f"s3://{BUCKET}/three",
            "options": {"endpoint_url": stack.enter_context(s3_server(HUB))},
        }
        tracking = stack.enter_context(mlflow_server(logs, stack.enter_context(postgres()), HUB))
        memory = f"--object-store-memory={200 << 20}"
        own = {**ENVIRONMENT, **KEYS, **AUTH}
        start = ["ray", "start", "--block", memory]

        def machine(name: str, *words: str) -> Machine:
            space, address = places[name]
            again = ["sh", "-c", 'until "$@"; do sleep 1; done', "sh"]  # as a service manager would
            command = [*again, *start, f"--node-ip-address={address}", *words]
            made = Machine(space, address, command, own, logs / f"{name}.log")
            made.start()
            stack.callback(made.kill)
            return made

        address = places["head"][1]
        head = machine("head", "--head", "--num-cpus=0", "--port=6379", f"--dashboard-host={address}")
        workers = [machine(name, f"--address={address}:6379", "--num-cpus=4") for name in ("one", "two")]
        told = {"LORWEB_CLUSTER": f"http://{address}:8265", "MLFLOW_TRACKING_URI": tracking, **KEYS, **AUTH}
        yield Cluster(head, workers, told, storage)


def on_cluster(project: Path, cluster: Cluster, stage: str) -> "subprocess.Popen[bytes]":
    """`dvc repro STAGE`, which hands the stage over."""
    with (project / "log.txt").open("ab") as log:
        return subprocess.Popen(
            ["dvc", "repro", stage], cwd=project, env=environment(**cluster.told), stdout=log, stderr=log
        )


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> Path:
    folder = clone(tmp_path / "project", "smoke")
    params = folder / "params.yaml"
    raw = yaml.safe_load(params.read_text(encoding="utf-8"))
    raw["storage"] = cluster.storage | {"uri": f"{cluster.storage['uri']}/{time.time_ns()}"}
    params.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "dies_in",
    [pytest.param(("generate",), id="short"), pytest.param(("generate", "train", "evaluate"), id="full")],
)
def test_the_whole_road_with_deaths_on_the_way_gives_the_same_bytes(expected, cluster, project, dies_in):
    store = yaml.safe_load((project / "params.yaml").read_text())["storage"]["uri"]
    submitter = on_cluster(project, cluster, STAGES[0])
    assert submitter.wait(PATIENCE) == 0, (project / "log.txt").read_text()[-6000:] + cluster.logs()
    for machine in (cluster.head, *cluster.workers):
        assert not list((machine.files() / "tmp/work").iterdir())
        assert not (machine.files() / str(project).lstrip("/")).exists()
    for stage in STAGES[1:]:
        if stage == "encode":
            cluster.head.kill()
        running = on_cluster(project, cluster, stage)
        if stage == "encode":
            until(lambda: "waiting up to" in (project / "log.txt").read_text())  # the submitter finds nobody
            cluster.head.start()
        if stage in dies_in:
            victim = cluster.working(stage, store, running)
            victim.kill()
            time.sleep(2)
            victim.start()
        code = running.wait(PATIENCE)
        assert code == 0, f"{stage}: {(project / 'log.txt').read_text()[-6000:]}\n{cluster.logs()}"
    assert outs(project) == expected
    said = (project / "log.txt").read_text()
    assert said.count("job lorweb-") >= len(STAGES) and "Traceback" not in said
    check_registry(project, cluster)
    told = call(project, "dvc", "status", "--json", **cluster.told)
    changed, _ = json.JSONDecoder().raw_decode(told, told.index("{"))
    assert set(changed) <= {"promote"}  # which always looks at the registry


def check_registry(project: Path, cluster: Cluster) -> None:
    """One training, finished, and one version of the model: nothing lost, nothing twice."""
    from mlflow import MlflowClient

    client = MlflowClient(cluster.told["MLFLOW_TRACKING_URI"], cluster.told["MLFLOW_TRACKING_URI"])
    (experiment,) = client.search_experiments(filter_string="name = 'lorweb'")
    jobs = set(re.findall(r"lorweb-train-\w+", (project / "log.txt").read_text()))
    runs = client.search_runs([experiment.experiment_id], "tags.stage = 'train'")
    (trained,) = [run for run in runs if run.data.tags["ray_submission_id"] in jobs]
    assert trained.info.status == "FINISHED" and len(trained.data.tags["git_commit"]) == 40
    decision = json.loads((project / "models/promoted.json").read_text())
    assert decision["decision"] in ("promoted", "refused") and decision["reasons"]
    contents = [found.tags["content_sha256"] for found in client.search_model_versions("name = 'lorweb'")]
    assert contents.count(decision["lineage"]["content_sha256"]) == 1 and not (project / "mlflow.db").exists()
