"""What a job is to do: one stage, on the parameters and inputs of a project, known by what decides its outs."""

import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.config_errors import validated
from lorweb.storage import Store, is_uri
from lorweb.storage.entries import Storage
from lorweb.storage.protocols import holds_password
from pipelines._code import CODE, ROOT, hash_of
from pipelines._launch import JOB
from pipelines._lineage import GIT, git_facts
from pipelines._upload import deciding_files

LOOKS_OUTSIDE: Final = ("collect", "promote")  # at source folders, at the registry: never skipped
TRACKED: Final = ("train", "promote")  # they write to MLflow
STORE: Final = "LORWEB_STORE"  # inside a job: uri and options as JSON
READS: Final = "LORWEB_READS"  # inside a job in a shared folder: what its stage was to read there
# Read where they are there: the report tells of every stage, the registry keeps the report. They decide no out, and
# metrics hold seconds: they travel, and are no part of a job's name.
BESIDE: Final = ("metrics", "reports/index.html", "reports/judge.json", "reports/model_card.md")
FORWARDED: Final = ("MLFLOW_TRACKING_URI", "HF_HOME", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION",
                    "AWS_DEFAULT_REGION")  # fmt: skip
_ALWAYS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_JOB_STOP_WAIT_TIME_S": "120",  # training writes a checkpoint before it ends
}


def plan(stage: str) -> dict[str, Any]:
    """The stage as dvc.yaml has it."""
    stages: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return stages[stage]


def stage_names() -> list[str]:
    """In the order of dvc.yaml."""
    return list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def deps(stage: str) -> list[str]:
    """Data and models that a stage reads; its code is no part of them."""
    return [dep for dep in plan(stage)["deps"] if dep.split("/")[0] not in CODE]


def outs(stage: str) -> list[str]:
    """All that a stage makes: outs, metrics and plots; and metrics/<stage>.json, which DVC need not know of."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in plan(stage).get(kind, [])]
    made = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return list(dict.fromkeys([*made, f"metrics/{stage}.json"]))


def store_of(params: str) -> Store | None:
    """The store that parameters name; None where nodes share a folder. Raises ValueError: nodes cannot find
    it, or it is named with a secret."""
    found = yaml.safe_load(params).get("storage") or {"uri": None, "options": {}}
    section = validated(Storage, found, "params.yaml: ")  # says no value: it may be a secret
    if section.uri is None:
        return None
    if not is_uri(section.uri) and not Path(section.uri).expanduser().is_absolute():
        raise ValueError(
            f"storage.uri is '{section.uri}', which each node would look for in its own folder; give the whole path"
        )
    return Store(section.uri, section.options)


@dataclass(frozen=True)
class Errand:
    """One stage of the project in `root`, whose params.yaml reads `params`."""

    stage: str
    root: Path
    params: str

    @cached_property
    def store(self) -> Store | None:
        """What nodes share, None for the folder `root` itself."""
        return store_of(self.params)

    def name(self, inputs: str) -> str:
        """The submission id: the same stage, code, parameters and inputs give the same, so that two make one job.

        `inputs` stand for the content of its deps. Where the outs go counts: the store, or the shared folder.
        """
        where = self.store.uri if self.store else str(self.root)
        facts = [self.stage, hash_of(deciding_files(ROOT), ROOT), self.read_params(), inputs, where]
        return f"lorweb-{self.stage}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"

    def read_params(self) -> str:
        """Seed and parameters that the stage reads, as JSON."""
        tree = yaml.safe_load(self.params)
        keys = sorted({"seed", *plan(self.stage).get("params", [])})
        return json.dumps({key: _value(tree, key) for key in keys}, sort_keys=True)

    def shared_reads(self) -> str:
        """Of all that a stage reads in a shared folder: parameters, and inputs as `shared_inputs` knows them."""
        return hashlib.sha256(f"{self.read_params()} {self.shared_inputs()}".encode()).hexdigest()

    def shared_inputs(self) -> str:
        """Of deps in a shared folder: hashes of their manifests, or of the files themselves."""
        return hash_of(stand_for(self.root, deps(self.stage)), self.root)

    def entrypoint(self) -> str:
        """Code from the upload, never from the folder that the job works in: `-P` keeps a copy there out of the way."""
        place = "" if self.store else f"cd {shlex.quote(str(self.root))} && "
        return f"code=$PWD && {place}PYTHONPATH=$code exec python -P -m cluster.job {self.stage}"

    def environment(self, name: str, forward: tuple[str, ...]) -> dict[str, str]:
        """Variables of the job. Ray shows them on its dashboard: no secret is among them unless `forward` names it."""
        found = {key: os.environ[key] for key in (*FORWARDED, *forward) if key in os.environ}
        found |= {JOB: name, GIT: json.dumps(git_facts(self.root))}
        if self.store is None:
            found[READS] = self.shared_reads()
        else:
            found[STORE] = json.dumps({"uri": self.store.uri, "options": dict(self.store.options)})
        return _ALWAYS | found

    def untracked(self) -> str:
        """Why this stage cannot run on nodes that share no folder with an MLflow database in a file; "" if it can."""
        address = os.environ.get("MLFLOW_TRACKING_URI", "")
        if (
            self.store is None
            or self.stage not in TRACKED
            or (is_uri(address) and not address.startswith(("sqlite", "file")))
        ):
            return ""
        found = f"MLFLOW_TRACKING_URI is {address}" if address else "MLFLOW_TRACKING_URI is not set"
        return (
            f"{self.stage} writes to MLflow, and {found}: a database in a file, which no other node sees; start a "
            "server that the nodes reach (docs/jobs.md) and export MLFLOW_TRACKING_URI=http://HOST:5000"
        )


def shown_password(forward: tuple[str, ...]) -> str:
    """Why no job can be sent: a variable that goes with every job holds a password; "" if none does."""
    for key in FORWARDED:
        if key not in forward and holds_password(os.environ.get(key, "")):
            return (
                f"{key} holds a password, which the dashboard would show with the job; give the address without it, "
                "and nodes their own MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or decide it: "
                f"--forward {key}"
            )
    return ""


def _value(tree: dict[str, Any], key: str) -> Any:
    return reduce(lambda node, part: node[part], key.split("."), tree)


def stand_for(root: Path, paths: list[str]) -> Iterator[Path]:
    """What tells the content of `paths` below `root`: manifests, which hold hashes, or else the files themselves."""
    for path in (root / path for path in paths):
        if path.is_file():
            yield path
        elif path.is_dir():
            found = [*path.rglob("_manifest.json"), *path.rglob("metadata.json")]
            yield from found or (file for file in path.rglob("*") if file.is_file())
