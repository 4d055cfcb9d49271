"""Every manifest against the schema of the version it names; each check is also shown one that it must refuse."""

import copy
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml

from cluster import manifests, submit
from tests.cluster.manifest_files import (
    CLUSTER,
    check_kuberay,
    check_kubernetes,
    cluster_spec,
    documents,
    only,
    templates,
)

KUBERAY = ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml")
PODS = (*KUBERAY, "mlflow.yaml")
PARTS = "app.kubernetes.io/part-of", "app.kubernetes.io/component"


def test_no_manifest_is_left_out() -> None:
    found = {path.relative_to(CLUSTER).as_posix() for path in CLUSTER.rglob("*.yaml")}
    assert found == {*PODS, "network-policy.yaml", "compose.yaml", "ray-up.yaml"}


@pytest.mark.slow
@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_takes_its_resources(name: str) -> None:
    resource = only(name)
    check_kuberay(resource)
    wrong: dict[str, Any] = copy.deepcopy(resource)
    (wrong["spec"].get("rayClusterSpec") or wrong["spec"])["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        check_kuberay(wrong)
    wrong = copy.deepcopy(resource)
    (wrong["spec"].get("rayClusterSpec") or wrong["spec"])["authOptions"]["mode"] = "tokens"
    with pytest.raises(jsonschema.ValidationError, match="tokens"):
        check_kuberay(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlflow.yaml", "network-policy.yaml"])
def test_kubernetes_takes_its_objects(name: str) -> None:
    for resource in documents(name):
        check_kubernetes(resource)
        wrong = copy.deepcopy(resource)
        wrong["spec"]["replica"] = 2
        with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
            check_kubernetes(wrong)


@pytest.mark.parametrize("name", PODS)
def test_pods_are_kubernetes_own_and_closed(name: str) -> None:
    """Restricted as Kubernetes' pod security standard of that name asks; limits on everything; pinned images."""
    pods = list(templates(name))
    assert len(pods) >= 2
    for pod in pods:
        check_kubernetes(pod)
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert re.fullmatch(r"[\w./-]+:\d[\w.-]+", container["image"]), container["image"]
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}


@pytest.mark.parametrize("name", KUBERAY)
def test_ray_asks_for_a_token_and_grows(name: str) -> None:
    """What KubeRay's operator checks beyond its schema, for a token and for the second autoscaler."""
    spec = cluster_spec(name)
    assert spec["authOptions"] == {"mode": "token", "secretName": "lorweb-ray-token"}
    assert spec["rayVersion"] == manifests.locked("ray")
    assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"
    assert [group["groupName"] for group in spec["workerGroupSpecs"]] == ["cpu", "gpu"]
    for group in spec["workerGroupSpecs"]:
        assert 0 == group["minReplicas"] <= group["maxReplicas"] > 0
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert group["template"]["spec"]["restartPolicy"] == "Never"
        for container in group["template"]["spec"]["containers"]:
            assert "command" not in container and "args" not in container, "KubeRay writes `ray start` itself"


def test_a_failed_job_starts_no_second_cluster() -> None:
    spec = only("kuberay/rayjob.yaml")["spec"]
    assert spec["backoffLimit"] == 0 and spec["shutdownAfterJobFinishes"]
    assert spec["activeDeadlineSeconds"] > 3600 and 0 < spec["ttlSecondsAfterFinished"] < 86400


def command_of(function: Any) -> Any:
    app = typer.Typer()
    app.command()(function)
    return typer.main.get_command(app)


def python_commands(text: str) -> list[list[str]]:
    """Arguments of each `python -m cluster.NAME` in a text, the module first."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"python -m (cluster\.\w+[^\n`&|;]*)", joined)]


def check_python_command(words: list[str]) -> None:
    known = {"cluster.submit": submit.main, "cluster.manifests": manifests.main}
    command_of(known[words[0]]).make_context(words[0], words[1:])


def test_the_jobs_command_is_one_of_this_project() -> None:
    entrypoint = only("kuberay/rayjob.yaml")["spec"]["entrypoint"]
    assert not re.search(r"[&|;<>$`'\"]", entrypoint), "KubeRay's own shell would take it"
    (found,) = python_commands(entrypoint)
    assert found[:2] == ["cluster.submit", "all"]
    check_python_command(found)
    with pytest.raises(Exception, match="adress"):
        check_python_command(["cluster.submit", "all", "--adress", "http://127.0.0.1:8265"])


@pytest.mark.slow
def test_mlflow_knows_its_arguments_and_is_called_by_a_name_it_answers_to() -> None:
    from mlflow.cli import cli
    from mlflow.server.security_utils import is_allowed_host_header

    server = next(document for document in documents("mlflow.yaml") if document["kind"] == "Deployment")
    container = server["spec"]["template"]["spec"]["containers"][0]
    given = cli.commands["server"].make_context("server", list(container["args"])).params
    composed = only("compose.yaml")["services"]["mlflow"]["command"]
    cli.commands["server"].make_context("server", composed[2:])
    uris = {
        entry["value"]
        for pod in templates("kuberay/raycluster.yaml")
        for entry in pod["spec"]["containers"][0]["env"]
        if entry["name"] == "MLFLOW_TRACKING_URI"
    }
    assert len(uris) == 1
    host = uris.pop().removeprefix("http://")
    allowed = given["allowed_hosts"].split(",")
    assert is_allowed_host_header(allowed, host) and is_allowed_host_header(allowed, "127.0.0.1:5000")
    assert not is_allowed_host_header(allowed, "rebound.example.org:5000")
    services = {
        d["metadata"]["name"]: d["spec"]["ports"][0]["port"] for d in documents("mlflow.yaml") if "ports" in d["spec"]
    }
    assert services[host.split(":")[0]] == int(host.split(":")[1]) == given["port"]


@pytest.mark.slow
def test_compose_takes_its_file_and_nothing_is_open_to_the_network(tmp_path: Path) -> None:
    def checked(path: Path) -> int:
        tool = Path(sys.executable).with_name("check-jsonschema")
        command = [tool, "--builtin-schema", "vendor.compose-spec", path]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert checked(CLUSTER / "compose.yaml") == 0
    raw = only("compose.yaml")
    ports = [port for service in raw["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("${LISTEN:-127.0.0.1}:") for port in ports)
    raw["services"]["mlflow"]["imagee"] = "x"
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(raw))
    assert checked(tmp_path / "wrong.yaml") == 1


def secrets_named(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value[key]["name"] for key in ("secretRef", "secretKeyRef") if key in value} | {value.get("secretName")}
        return own.union(*map(secrets_named, value.values())) - {None}
    return set().union(*map(secrets_named, value)) if isinstance(value, list) else set()


def secrets_held(text: str) -> list[str]:
    """Values that stand where a password or a key would, written out instead of referred to."""
    found = re.findall(
        r"(?i)(?:password|access_key|auth_token)\w*[\"']?(?:, value)?:[ \t]+[\"']?([^\s{$#\"',}]+)", text
    )
    return found + re.findall(r"://\w+:([^$@/\s]+)@", text)


def test_secrets_are_named_and_never_held() -> None:
    named = set().union(*(secrets_named(document) for name in PODS for document in documents(name)))
    assert named == {"lorweb-ray-token", "lorweb-store", "lorweb-hub", "lorweb-postgres"}
    guide = (CLUSTER / "README.md").read_text(encoding="utf-8")
    assert not [name for name in named if f"create secret generic {name}" not in guide]
    for name in (*PODS, "compose.yaml"):
        assert all(document.get("kind") != "Secret" for document in documents(name))
        assert not secrets_held((CLUSTER / name).read_text(encoding="utf-8")), name
    assert secrets_held("- {name: AWS_SECRET_ACCESS_KEY, value: abc}") == ["abc"]
    assert (
        secrets_held("POSTGRES_PASSWORD: abc")
        == secrets_held("uri: postgresql+psycopg2://mlflow:abc@host/db")
        == ["abc"]
    )
