"""Two clones, a folder as their remote, two versions of real data: the older model comes back, nothing is made."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from lorweb.data.manifest import file_sha256
from lorweb.profiles import merge
from tests.cluster.whole import PATIENCE, call, ran
from tests.cluster.whole import clone as clone_project
from tests.versions.toy import git, save

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]
POOL = {"actors": 1, "cpus": 0.5, "gpus": 0, "batch_size": 64}
SMALLER = {  # than the smoke profile
    "collect": {"readers": [{"reader": "dicebear", "styles": ["thumbs"], "seeds": 12, "first_seed": 0}], "pool": POOL},
    "generate": {
        "editors": [{"editor": "embedded", "tasks": ["colour/hue-*", "geometry/mirror"], "pool": POOL}],
        "sources_per_task": 9,
    },
    "encode": {"pool": POOL},
    "train": {"baselines": [], "steps": 4, "checkpoint_every": 4, "validate_every": 4, "sheet_rows": 1},
    "evaluate": {
        "models": ["lorweb", "lorweb_shuffled", "base", "copy"],
        "atoms": None,
        "pool": {**POOL, "batch_size": 16},
    },
}


def set_params(project: Path, changes: dict) -> None:
    path = project / "params.yaml"
    params = merge(yaml.safe_load(path.read_text(encoding="utf-8")), changes)
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


FEWER = {"assemble": {"max_pairs_per_task": 4}}
ALL = {"assemble": {"max_pairs_per_task": 200}}


def contents(project: Path) -> dict[str, str]:
    """{path: sha256} of what is versioned: data, models, reports."""
    files = [
        path for folder in ("data", "models", "reports") for path in (project / folder).rglob("*") if path.is_file()
    ]
    left_out = (".gitignore", "promoted.json")  # the latter says what the registry of one clone decided
    return {p.relative_to(project).as_posix(): file_sha256(p) for p in files if p.name not in left_out}


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A clone with versions `all` and `fewer`, both pushed; and what each holds."""
    project = clone_project(tmp_path_factory.mktemp("versions") / "one", "smoke")
    set_params(project, SMALLER)
    call(project, "dvc", "remote", "add", "--default", "store", "../store")
    held = {}
    for name, changes in (("all", ALL), ("fewer", FEWER)):
        set_params(project, changes)
        output = call(project, "dvc", "repro")
        held[name] = contents(project)
        save(project, name)
        call(project, "python", "-m", "pipelines.push")
    assert ran(output) == ["assemble", "encode", "train", "evaluate", "promote"]
    differ = {name for name in held["all"] if held["all"][name] != held["fewer"].get(name)}
    assert {"models/candidate/basis.safetensors", "reports/index.html"} <= differ
    assert "data/pairs/part-00000.parquet" not in differ
    return project, held


@pytest.fixture(scope="module")
def clone(origin):
    """A second clone that has pulled the newer version."""
    project, held = origin
    folder = project.parent / "two"  # beside the first: the remote is written as ../store
    git(folder.parent, "clone", "--quiet", str(project), str(folder))
    git(folder, "config", "user.name", "test")
    git(folder, "config", "user.email", "test@example.org")
    call(folder, "dvc", "pull", "--run-cache")
    assert contents(folder) == held["fewer"]
    return folder


def test_the_older_version_comes_back_with_its_model(origin, clone):
    _, held = origin
    git(clone, "checkout", "--quiet", "all")
    call(clone, "dvc", "pull")
    assert contents(clone) == held["all"]
    assert ran(call(clone, "dvc", "repro")) == ["promote"], "the registry of this clone is asked, and no more"
    assert contents(clone) == held["all"]
    assert json.loads((clone / "models/promoted.json").read_text())["version"] == 1
    assert "0 damaged or changed, 0 missing" in call(clone, "python", "-m", "pipelines.verify")
    git(clone, "checkout", "--quiet", "--force", "fewer")
    call(clone, "dvc", "checkout")
    assert contents(clone) == held["fewer"]


def test_older_parameters_are_enough(origin, clone):
    _, held = origin
    set_params(clone, ALL)
    output = call(clone, "dvc", "repro", "--pull", "evaluate")
    assert ran(output) == [] and output.count("is cached - skipping run") == 4
    assert contents(clone) == held["all"]
    git(clone, "checkout", "--quiet", "--force", "fewer")
    call(clone, "dvc", "checkout")


def test_a_sweep_ends_in_a_table(clone):
    swept_names = ("train.basis.n_loras", "train.basis.rank", "train.optimizer.router_multiplier")
    for values in (("2", "1", "0.5"), ("3", "4", "2.5")):
        sets = [f"{name}={value}" for name, value in zip(swept_names, values, strict=True)] + ["train.steps=2"]
        call(clone, "dvc", "exp", "run", "--queue", *(word for one in sets for word in ("-S", one)), "train")
    call(clone, "dvc", "exp", "run", "--run-all")
    printed = call(clone, "python", "-m", "pipelines.experiments", "--csv", "table.csv", "--markdown", "table.md")
    with (clone / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    swept = {row["train.basis.n_loras"]: row for row in rows if row["state"] == "Success"}
    assert set(swept) == {"2", "3"} and len(rows) == 4, printed
    assert {tuple(row[name] for name in swept_names) for row in swept.values()} == {
        ("2", "1", "0.5"),
        ("3", "4", "2.5"),
    }
    assert float(swept["2"]["trained values"]) < float(swept["3"]["trained values"])
    assert all(float(row["validation seen"]) > 0 for row in swept.values())
    assert not any(row["mse_to_truth seen"] for row in swept.values()), "what was not evaluated has inherited numbers"
    head = next(row for row in rows if row["experiment"] == "workspace")
    assert (
        float(head["mse_to_truth seen low"])
        <= float(head["mse_to_truth seen"])
        <= float(head["mse_to_truth seen high"])
    )
    table = (clone / "table.md").read_text(encoding="utf-8")
    assert table.count("\n") == 6 and "experiment" in printed
    assert all(f"| {name} |" in table for name in swept_names)


def test_a_release_is_got_by_its_tag(origin, tmp_path):
    project, held = origin
    assert "data card and licences" in call(project, "python", "-m", "pipelines.release")
    save(project, "data-1.0")
    call(tmp_path, "dvc", "get", str(project), "data/pairs", "--rev", "data-1.0", "--out", "pairs")
    call(tmp_path, "dvc", "get", str(project), "release", "--rev", "data-1.0")
    assert file_sha256(tmp_path / "pairs/part-00000.parquet") == held["all"]["data/pairs/part-00000.parquet"]
    record = json.loads((tmp_path / "release/licences.json").read_text())
    assert sum(found["pairs"] for found in record["licences"].values()) > 20
    assert "# Visual analogies" in (tmp_path / "release/README.md").read_text()
