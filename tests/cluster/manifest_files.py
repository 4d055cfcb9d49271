"""The manifests as data, and the schemas that they are held to."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
SCHEMAS = Path(__file__).parent / "schemas"
KUBERAY = "feeaf72"  # the commit whose schemas lie in schemas/; which release has them is not known here
KUBERNETES = "1.37"  # whose schemas kubernetes-validate carries; KubeRay and MLflow use nothing newer than 1.29


def documents(name: str) -> list[dict[str, Any]]:
    """The YAML documents of a file below cluster/."""
    found = [document for document in yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")) if document]
    assert found, f"no document in {name}"
    return found


def only(name: str) -> dict[str, Any]:
    (document,) = documents(name)
    return document


def check_kuberay(resource: dict[str, Any]) -> None:
    """Against the custom resource's own schema, unknown fields refused. Raises jsonschema.ValidationError."""
    version, validator = _kuberay(resource["kind"])
    assert resource["apiVersion"] == version
    if (worst := jsonschema.exceptions.best_match(validator.iter_errors(resource))) is not None:
        raise worst


@cache
def _kuberay(kind: str) -> tuple[str, jsonschema.Draft202012Validator]:
    """apiVersion of a kind, and its schema ready for use."""
    schema = json.loads((SCHEMAS / f"{kind.lower()}.v1.json").read_text(encoding="utf-8"))
    closed = _closed(schema["openAPIV3Schema"])
    jsonschema.Draft202012Validator.check_schema(closed)
    return f"{schema['group']}/{schema['version']}", jsonschema.Draft202012Validator(closed)


def _closed(schema: Any) -> Any:
    """The same schema, open to no field that it does not name."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    below = {key: _closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        below["additionalProperties"] = False
    return below


def check_kubernetes(resource: dict[str, Any]) -> None:
    """Against Kubernetes' own schema, unknown fields refused. Raises kubernetes_validate.ValidationError."""
    import kubernetes_validate

    kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def cluster_spec(name: str) -> dict[str, Any]:
    """The spec of the Ray cluster in a RayCluster or a RayJob."""
    spec = only(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def templates(name: str) -> Iterator[dict[str, Any]]:
    """Every pod template of a file, as a Pod."""
    for document in documents(name):
        spec = document["spec"]
        found = [spec["template"]] if document["kind"] in ("Deployment", "StatefulSet") else []
        if document["kind"] in ("RayCluster", "RayJob"):
            cluster = spec.get("rayClusterSpec", spec)
            found = [
                cluster["headGroupSpec"]["template"],
                *(group["template"] for group in cluster["workerGroupSpecs"]),
            ]
            found += [spec["submitterPodTemplate"]] if "submitterPodTemplate" in spec else []
        for number, template in enumerate(found):
            meta = {"name": f"{document['metadata']['name']}-{number}", **template["metadata"]}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
