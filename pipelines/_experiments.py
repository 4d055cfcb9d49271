"""What DVC's experiments have come to, read from git: parameters, and metrics of that experiment itself."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lorweb.evaluation.results import HEADLINE

OURS, RIVAL, GAP = "lorweb", "lorweb minus single_lora", "exemplar gap of lorweb (shuffled minus true)"
CELLS: Final = ("seen", "unseen")


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval, where one was recorded."""

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = f" ({self.low:.3f} to {self.high:.3f})" if self.low is not None and self.high is not None else ""
        return f"{self.mean:.4f}{interval}"


@dataclass(frozen=True)
class Experiment:
    """One row of the table. `state`: Success, Queued, Running, Failed, or "" for a commit and the workspace."""

    name: str
    state: str
    params: Mapping[str, str]  # dotted name -> JSON text
    measures: Mapping[str, Measure] = field(default_factory=dict)  # column -> number; what was not measured is missing


def experiments(root: Path, revisions: list[str] | None = None) -> list[Experiment]:
    """The workspace, the commits `revisions` (HEAD) and the experiments that started from them.

    Raises:
        DvcException: no DVC project, or no such revision.
    """
    from dvc.api import exp_show

    found = []
    for row in exp_show(repo=str(root), revs=revisions):
        revision = "" if row["rev"] == "workspace" else str(row["rev"])
        tree = Tree(root, revision)
        params = dict(leaves(tree.yaml("params.yaml")))
        measures = measured(tree) if row["State"] in (None, "Success") else {}
        found.append(Experiment(str(row["Experiment"] or row["rev"]), row["State"] or "", params, measures))
    return found


@dataclass(frozen=True)
class Tree:
    """Files of a revision, or of the workspace for ""."""

    root: Path
    revision: str

    def text(self, name: str) -> str:
        """Of a file; "" where there is none."""
        if not self.revision:
            path = self.root / name
            return path.read_text(encoding="utf-8") if path.is_file() else ""
        command = ["git", "-C", str(self.root), "show", f"{self.revision}:./{name}"]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
        return done.stdout if done.returncode == 0 else ""

    def yaml(self, name: str) -> dict[str, Any]:
        """Of a YAML file as DVC reads it (1e-06 is a number); empty where there is none."""
        from dvc.utils.serialize import parse_yaml

        return dict(parse_yaml(self.text(name), name) or {})

    def json(self, name: str) -> dict[str, Any]:
        """Of a JSON file; empty where there is none."""
        found: dict[str, Any] = json.loads(self.text(name) or "{}")
        return found


def leaves(tree: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, JSON text) of every value; entries of lists of sections go by number, as for `dvc exp run -S`."""
    if isinstance(tree, Mapping):
        found = list(tree.items())
    elif isinstance(tree, list) and tree and all(isinstance(entry, Mapping) for entry in tree):
        found = list(enumerate(tree))
    else:
        yield where, json.dumps(tree)
        return
    for key, value in found:
        yield from leaves(value, f"{where}.{key}" if where else str(key))


def measured(tree: Tree) -> dict[str, Measure]:
    """Column -> number, of what the parameters and data of this revision gave.

    Metrics are in git, so an experiment that ended before a stage still has those of the commit it started from: they
    do not count.
    """
    lock, params = tree.yaml("dvc.lock").get("stages", {}), tree.yaml("params.yaml")
    found: dict[str, Measure] = {}
    if is_current("train", lock, params):
        train = tree.json("metrics/train.json").get(OURS, {})
        for name, column in (("parameters", "trained values"), ("loss", "loss")):
            found |= {column: Measure(train[name])} if name in train else {}
        found |= {f"validation {c}": Measure(train[f"validation_{c}"]) for c in CELLS if f"validation_{c}" in train}
    if is_current("evaluate", lock, params):
        metrics, paired = tree.json("reports/metrics.json"), tree.json("reports/paired.json").get("paired", {})
        for cell in CELLS:
            places = {
                f"{HEADLINE} {cell}": metrics.get(cell, {}).get(OURS, {}).get(HEADLINE),
                f"minus single LoRA {cell}": paired.get(RIVAL, {}).get(cell),
                f"exemplar gap {cell}": paired.get(GAP, {}).get(cell),
            }
            found |= {name: Measure(v["mean"], v["low"], v["high"]) for name, v in places.items() if v}
    return found


def is_current(stage: str, lock: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """A stage has run on these parameters, and on what the stages before it have made of them."""
    makers = {out["path"]: (name, out.get("md5")) for name, entry in lock.items() for out in entry.get("outs", [])}
    entry = lock.get(stage)
    if entry is None or any(
        _at(params, name) != value for name, value in entry.get("params", {}).get("params.yaml", {}).items()
    ):
        return False
    for dep in entry.get("deps", []):
        maker, md5 = makers.get(dep["path"], ("", None))
        if maker and (dep.get("md5") != md5 or not is_current(maker, lock, params)):
            return False
    return True


def _at(tree: Any, name: str) -> Any:
    for key in name.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
