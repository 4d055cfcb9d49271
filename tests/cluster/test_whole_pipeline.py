"""The whole road on the smoke profile, by `dvc repro` and by Ray jobs on a real head: the same bytes either way."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lorweb.data.shards import read_table
from lorweb.records import PAIR, SOURCE
from tests.cluster.head import ROOT, submit
from tests.cluster.whole import PATIENCE, STAGES, call, clone, outs, ran


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a stranger clones it, under the smoke profile."""
    return clone(tmp_path_factory.mktemp("whole") / "project", "smoke")


@pytest.fixture(scope="module")
def reproduced(project: Path) -> str:
    """What the first `dvc repro` printed."""
    return call(project, "dvc", "repro")


pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]


def test_every_stage_runs_and_leaves_what_it_promises(project, reproduced):
    assert ran(reproduced) == STAGES
    for name in STAGES:
        assert json.loads((project / f"metrics/{name}.json").read_text())["seconds"] >= 0
    assert (project / "reports/index.html").is_file() and (project / "mlflow.db").is_file()
    decision = json.loads((project / "models/promoted.json").read_text())
    assert decision["decision"] in ("promoted", "refused") and decision["reasons"]


def test_again_runs_nothing_but_the_look_at_the_registry(project, reproduced):
    before = outs(project)
    assert ran(call(project, "dvc", "repro")) in ([], ["promote"])
    assert outs(project) == before


def test_metrics_plots_and_params_say_something(project, reproduced):
    shown = call(project, "dvc", "metrics", "show")
    assert "metrics/filter.json" in shown and "perceptual_to_truth" in shown
    call(project, "dvc", "plots", "show", "--out", "plots")
    page = (project / "plots/index.html").read_text(encoding="utf-8")
    assert "train_loss" in page and "filter_survival" in page
    assert "train.steps" in call(project, "dvc", "params", "diff", "HEAD")


def test_a_picture_of_the_trained_model_ends_at_its_source_images_and_their_licences(project, reproduced):
    pairs = read_table(project / "data" / "pairs", PAIR).to_pylist()
    for name, data in (("a", pairs[0]["before"]), ("a2", pairs[0]["after"]), ("b", pairs[-1]["before"])):
        (project / f"{name}.png").write_bytes(data)
    call(project, "lorweb", "apply", "a.png", "a2.png", "b.png", "-o", "b2.png", "--model", "models/candidate")
    printed = call(project, "lorweb", "trace", "b2.png", "--verify", "--json")
    told = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    sources = {row["id"]: row["licence"] for row in read_table(project / "data" / "sources", SOURCE).to_pylist()}
    found = [row["id"] for row in told["sources"]["list"]]
    assert told["missing"] == [] and len(set(found)) == len(found) > 5
    assert told["sources"]["licences"] == dict(Counter(sources[name] for name in found))


def test_the_job_that_the_guide_shows_for_ci(project, reproduced):
    """The block of docs/registry.md, without its address: here the registry is the project's own file."""
    guide = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"## In CI\n\n```\nexport MLFLOW_TRACKING_URI=\S+\n(.*?)```", guide, re.S)
    version = str(json.loads((project / "models/promoted.json").read_text())["version"])
    call(project, "lorweb", "registry", "promote", version, "--reason", "a smoke model passes no gate")
    printed = call(project, "bash", "-euo", "pipefail", "-c", block)
    decision = json.loads((project / "models/promoted.json").read_text())
    assert all(line in printed for line in (decision["decision"], *decision["reasons"]))
    champion = json.loads((project / "champion.json").read_text())
    assert champion["version"] == decision["champion"] == int(version) and champion["files"] == "whole"


def test_a_changed_threshold_runs_the_filter_and_what_follows(project, reproduced):
    path = project / "params.yaml"
    kept = path.read_text(encoding="utf-8")
    params = yaml.safe_load(kept)
    params["filter"]["checks"][0]["min"] += 0.02
    try:
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        assert ran(call(project, "dvc", "repro", "filter")) == ["filter"]
        follows = ran(call(project, "dvc", "repro", "--dry"))
        assert {"assemble", "encode", "evaluate"} <= set(follows) and not {"collect", "generate"} & set(follows)
        metrics = json.loads((project / "metrics/filter.json").read_text())
        assert metrics["rejected"].get("change_min", 0) > 0
    finally:
        path.write_text(kept, encoding="utf-8")
    call(project, "dvc", "repro", "filter")


def test_as_ray_jobs_on_a_running_head_it_is_the_same_bytes(project, reproduced, head):
    expected = outs(project)
    assert len(expected) > 20
    root = project.parent / "shared"
    shutil.copytree(
        project,
        root,
        ignore=shutil.ignore_patterns(
            ".work", "cache", "data", "models", "reports", "mlflow.db", "mlartifacts", "metrics"
        ),
    )
    done = submit(head, "all", "--root", str(root), patience=PATIENCE)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    again = submit(head, "generate", "--root", str(root))
    assert again.returncode == 0 and "done before" in again.stdout
    assert outs(root) == expected
