"""Who may reach whom under the network policies, read off them as Kubernetes does."""

from typing import Any

import pytest

from tests.cluster.manifest_files import cluster_spec, documents, templates

POLICIES = documents("network-policy.yaml")
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def labels_of(component: str) -> dict[str, str]:
    """Of the pods of a component, which must stand in a manifest."""
    pods = [pod for name in ("kuberay/rayjob.yaml", "mlflow.yaml") for pod in templates(name)]
    found = [
        pod["metadata"]["labels"]
        for pod in pods
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    assert found, f"no pod is a {component}"
    return found[0]


def selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    within = selector.get("matchExpressions", [])
    assert all(rule["operator"] == "In" for rule in within)
    return all(labels.get(key) == value for key, value in wanted) and all(
        labels.get(rule["key"]) in rule["values"] for rule in within
    )


def allowed(way: str, of: dict[str, str], other: dict[str, str], port: int | str, namespace: str = "") -> bool:
    """Whether some policy lets `of` talk (`way` Egress) to `other`, or be talked to by it (Ingress), at a port: of TCP
    where it is a number, else as kubectl writes it, `53/UDP`.
    """
    number, _, protocol = str(port).partition("/")
    asked = (int(number), protocol or "TCP")
    side = "to" if way == "Egress" else "from"
    mine = [p["spec"] for p in POLICIES if way in p["spec"]["policyTypes"] and selected(p["spec"]["podSelector"], of)]
    assert mine, "not even the denial of everything selects it"
    for rule in (rule for spec in mine for rule in spec.get(way.lower(), [])):
        ports = [(entry["port"], entry.get("protocol", "TCP")) for entry in rule.get("ports", [])]
        if (not ports or asked in ports) and any(peer(entry, other, namespace) for entry in rule.get(side, [{}])):
            return True
    return False


def peer(entry: dict[str, Any], labels: dict[str, str], namespace: str) -> bool:
    where = entry.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", "")
    return not entry or (where == namespace and selected(entry.get("podSelector", {}), labels))


def flows(source: str, target: str, port: int) -> bool:
    return allowed("Egress", labels_of(source), labels_of(target), port) and allowed(
        "Ingress", labels_of(target), labels_of(source), port
    )


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [("ray", "ray", 6379), ("ray", "mlflow", 5000), ("mlflow", "postgres", 5432), ("submitter", "ray", 8265)],
)
def test_what_is_needed_passes(source: str, target: str, port: int) -> None:
    assert flows(source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("ray", "postgres", 5432),
        ("submitter", "ray", 6379),
        ("submitter", "mlflow", 5000),
        ("mlflow", "ray", 8265),
        ("postgres", "mlflow", 5000),
        ("ray", "mlflow", 22),
    ],
)
def test_what_is_not_needed_does_not(source: str, target: str, port: int) -> None:
    assert not flows(source, target, port)


def test_from_other_namespaces_only_the_operator_reaches_the_job_server() -> None:
    ray = labels_of("ray")
    assert allowed("Ingress", ray, OPERATOR, 8265, "kuberay-system")
    assert not allowed("Ingress", ray, OPERATOR, 8265, "default")
    assert not allowed("Ingress", ray, OPERATOR, 6379, "kuberay-system")
    assert not allowed("Ingress", labels_of("mlflow"), OPERATOR, 5000, "kuberay-system")


@pytest.mark.parametrize("component", ["ray", "mlflow", "submitter", "postgres"])
def test_every_pod_asks_for_names_and_only_where_they_are_kept(component: str) -> None:
    pod, names = labels_of(component), {"k8s-app": "kube-dns"}
    for port in ("53/UDP", "53/TCP"):
        assert allowed("Egress", pod, names, port, "kube-system"), port
        assert not allowed("Egress", pod, names, port, "default")
        assert not allowed("Egress", pod, {"k8s-app": "metrics-server"}, port, "kube-system")
        assert not allowed("Egress", pod, {"it": "is elsewhere"}, port)
    assert not allowed("Egress", pod, names, 9153, "kube-system")


def test_the_heads_autoscaler_reaches_the_api_of_kubernetes() -> None:
    """At the service's port and at the server's own: plugins differ in which of them a policy sees."""
    assert cluster_spec("kuberay/raycluster.yaml")["enableInTreeAutoscaling"]
    server = {"it": "is no pod"}
    assert all(allowed("Egress", labels_of("ray"), server, port) for port in (443, 6443))
    assert not allowed("Egress", labels_of("ray"), server, "443/UDP")
    for component in ("submitter", "postgres"):
        assert not any(allowed("Egress", labels_of(component), server, port) for port in (443, 6443))


def test_the_world_is_reached_by_tls_alone_and_not_from_the_database() -> None:
    world = {"it": "is elsewhere"}
    assert allowed("Egress", labels_of("ray"), world, 443) and allowed("Egress", labels_of("mlflow"), world, 443)
    assert not allowed("Egress", labels_of("ray"), world, 80)
    assert not allowed("Egress", labels_of("postgres"), world, 443)
    assert not allowed("Egress", labels_of("submitter"), world, 443)
