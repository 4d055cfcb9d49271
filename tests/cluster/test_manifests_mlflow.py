"""MLflow by the very command and variables of mlflow.yaml, on a real Postgres."""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster.manifest_files import documents
from tests.serving.servers import answering, free_port, no_postgres, postgres

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(no_postgres()), reason=no_postgres() or "there is one")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, folder of its artifacts); only addresses and the database's host differ from the manifest."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    server = next(document for document in documents("mlflow.yaml") if document["kind"] == "Deployment")
    container = server["spec"]["template"]["spec"]["containers"][0]
    words = [word.replace("0.0.0.0", "127.0.0.1").replace("port=5000", f"port={port}") for word in container["args"]]
    given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    with postgres() as database:
        asked = given["MLFLOW_BACKEND_STORE_URI"]
        assert "$(POSTGRES_PASSWORD)@lorweb-postgres:5432/mlflow" in asked
        there = f"{urlsplit(database).netloc.split('@')[1]}{urlsplit(database).path}"
        uri = asked.replace("$(POSTGRES_PASSWORD)", "cafe").replace("lorweb-postgres:5432/mlflow", there)
        environment = os.environ | {
            "MLFLOW_BACKEND_STORE_URI": uri,
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "kept"),
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [str(Path(sys.executable).with_name(container["command"][0])), *container["command"][1:], *words]
        with answering(command, environment, f"http://127.0.0.1:{port}", folder):
            yield f"http://127.0.0.1:{port}", folder / "kept"


def answer(address: str, path: str, host: str) -> int:
    """Status of a call by the name `host`."""
    body = json.dumps({"max_results": 1}).encode() if path.startswith("/api") else None
    headers = {"Host": host, "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address}{path}", body, headers), timeout=30) as found:
            return int(found.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_probes_and_pods_are_answered_and_other_names_are_not(served: tuple[str, Path]) -> None:
    address, _ = served
    search = "/api/2.0/mlflow/experiments/search"
    assert answer(address, "/health", "10.0.3.7:5000") == 200, "a probe calls the pod's own address"
    assert answer(address, search, "lorweb-mlflow:5000") == 200
    assert answer(address, search, "lorweb-mlflow.lorweb.svc:5000") == 200
    assert answer(address, search, "rebound.example.org:5000") == 403


def test_runs_are_in_the_database_and_files_pass_through_the_server(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    address, kept = served
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    (tmp_path / "note.txt").write_text("kept by the server")
    client = MlflowClient(address)
    run = client.create_run(client.create_experiment("manifest"))
    client.log_metric(run.info.run_id, "loss", 0.25)
    client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.25}
    assert [path.read_text() for path in kept.rglob("note.txt")] == ["kept by the server"]
