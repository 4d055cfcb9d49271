"""What a submission is made of, without a cluster: code, name, parameters, sentences of a refusal."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.errand import Errand, deps, outs, shown_password, stage_names
from pipelines._upload import MARK, MAX_UPLOAD, code_copy, code_files, upload
from tests.cluster.head import ROOT, free_port, submit
from tests.cluster.trees import fill, tree

SECRET = "wJalrXUtnFEMI"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with nothing but parameters, which name a store."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["collect"]["readers"] = [{"reader": "photos", "crops": 1}]
    raw["storage"] = {"uri": f"file://{tmp_path / 'store'}", "options": {}}
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    return root


def errand(stage: str, root: Path, **changes: object) -> Errand:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    return Errand(stage, root, yaml.safe_dump(raw | changes))


def test_only_code_is_uploaded_and_never_much(tmp_path):
    names = {path.relative_to(ROOT).parts[0] for path in code_files(ROOT)}
    assert names == {"lorweb", "pipelines", "cluster", "dvc.yaml"}
    assert 100_000 < upload(ROOT) < MAX_UPLOAD
    for folder in ("lorweb", "pipelines", "cluster"):
        fill(tmp_path, {f"{folder}/a.py": "", f"{folder}/__pycache__/a.pyc": "", f"{folder}/big.bin": ""})
    fill(tmp_path, {"dvc.yaml": "", "data/x": "", ".rayignore": "/*\n!lorweb\n!pipelines\n!dvc.yaml\n"})
    with code_copy(tmp_path) as folder:
        found = tree(folder)
    with code_copy(tmp_path) as folder:  # Ray shares no package between jobs, and deletes none that is about to be used
        assert tree(folder).pop(MARK) != found.pop(MARK) and tree(folder).keys() - {MARK} == found.keys()
    assert set(found) == {
        "dvc.yaml",
        *(f"{name}/{file}" for name in ("lorweb", "pipelines") for file in ("a.py", "big.bin")),
    }
    with (tmp_path / "lorweb/big.bin").open("wb") as file:
        file.truncate(MAX_UPLOAD + 1)
    with pytest.raises(ValueError, match=r"60 MiB.*lorweb/big\.bin"):
        upload(tmp_path)


@pytest.mark.slow
def test_what_decides_the_outs_names_the_job_and_nothing_else(project):
    first = errand("filter", project).name("inputs")
    assert first == errand("filter", project).name("inputs")
    raw = yaml.safe_load((project / "params.yaml").read_text())
    assert errand("filter", project, promote=raw["promote"] | {"model": "other"}).name("inputs") == first
    others = {
        errand("encode", project).name("inputs"),
        errand("filter", project).name("other inputs"),
        errand("filter", project, seed=raw["seed"] + 1).name("inputs"),
        errand("filter", project, filter=raw["filter"] | {"max_error_rate": 0.5}).name("inputs"),
        errand("filter", project, storage={"uri": "s3://bucket/prefix", "options": {}}).name("inputs"),
    }
    assert len(others) == 5 and first not in others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("cluster/README.md", False),
        ("cluster/compose.yaml", False),
        ("cluster/templates/rayjob.yaml.j2", False),
        ("lorweb/py.typed", False),
        ("lorweb/charts.py", True),
        ("cluster/job.py", True),
        ("dvc.yaml", True),
        ("lorweb/data/catalogue.yaml", True),
        ("lorweb/tiny/kontext/scheduler/scheduler_config.json", True),
        ("lorweb/basis/encoder_weights/efficientnet-lite0+style.safetensors", True),
    ],
)
def test_code_and_packaged_data_name_the_job_and_guides_do_not(project, tmp_path, monkeypatch, file, counts):
    for path in code_files(ROOT):
        copy = tmp_path / "code" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    monkeypatch.setattr("cluster.errand.ROOT", tmp_path / "code")
    before = errand("filter", project).name("inputs")
    with (tmp_path / "code" / file).open("ab") as changed:
        changed.write(b"\n# one more line\n")
    assert (errand("filter", project).name("inputs") != before) == counts


def test_a_shared_folder_is_known_by_its_manifests(project):
    shared = errand("generate", project, storage={"uri": None, "options": {}})
    before = shared.shared_inputs()
    fill(project, {"data/candidates/_manifest.json": "{}"})  # its own out does not count
    assert shared.shared_inputs() == before
    fill(project, {"data/sources/_manifest.json": "{}"})
    assert shared.shared_inputs() != before
    assert "cluster.job generate" in shared.entrypoint() and str(project) in shared.entrypoint()
    spaced = Errand("generate", Path("/a b"), shared.params)
    assert "cd '/a b' " in spaced.entrypoint() and spaced.name("") != shared.name("")


def test_no_secret_travels_unasked(project, monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN", "FSSPEC_S3_SECRET"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
    told = errand("train", project).environment("job", ())
    assert SECRET not in json.dumps(told) and told["AWS_ENDPOINT_URL_S3"] == "http://minio:9000"
    assert json.loads(told["LORWEB_GIT"])["git_commit"] == "" and json.loads(told["LORWEB_STORE"])["options"] == {}
    assert errand("train", project).environment("job", ("HF_TOKEN",))["HF_TOKEN"] == SECRET
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:{SECRET}@mlflow:5000")
    refused = shown_password(())
    assert "MLFLOW_TRACKING_URI holds a password" in refused and SECRET not in refused
    assert shown_password(("MLFLOW_TRACKING_URI",)) == ""


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        (None, True),
        ("sqlite:////x/mlflow.db", True),
        ("/x/mlruns", True),
        ("http://mlflow:5000", False),
        ("postgresql://h/d", False),
    ],
)
def test_mlflow_in_a_file_is_refused_where_nodes_share_nothing(project, monkeypatch, address, refused):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert bool(errand("train", project).untracked()) == refused
    assert not errand("filter", project).untracked()
    assert not errand("train", project, storage={"uri": None, "options": {}}).untracked()


def test_a_store_in_a_relative_folder_is_refused(project):
    with pytest.raises(ValueError, match="whole path"):
        errand("filter", project, storage={"uri": "shared", "options": {}}).name("")


def test_deps_and_outs_are_those_of_dvc():
    assert (
        "data/encoded" in deps("train")
        and "models/baselines" in outs("train")
        and "metrics/train_loss.csv" in outs("train")
    )
    assert not [dep for dep in deps("evaluate") if dep.startswith(("lorweb", "pipelines"))]
    for stage in stage_names():  # each writes it, whether DVC knows or not
        assert outs(stage).count(f"metrics/{stage}.json") == 1


@pytest.mark.slow
def test_what_cannot_be_is_a_sentence(project):
    absent = submit(f"http://127.0.0.1:{free_port()}", "collect", "--root", str(project))
    assert absent.returncode == 1 and "no job server answers" in absent.stderr and "Traceback" not in absent.stderr
    for words, said in (
        (["colect", "--root", str(project)], "no stage 'colect'"),
        (["collect", "--root", str(project / "nowhere")], "no params.yaml"),
        (["all", "--detach", "--root", str(project)], "--detach is for one stage"),
        (["train", "--root", str(project)], "MLFLOW_TRACKING_URI"),
    ):
        wrong = submit("http://127.0.0.1:1", *words)
        assert wrong.returncode == 2 and said in wrong.stderr and "Traceback" not in wrong.stderr
    with (project / "params.yaml").open("a") as file:
        file.write("storge: {}\n")
    wrong = submit("http://127.0.0.1:1", "collect", "--root", str(project))
    assert wrong.returncode == 2 and "did you mean 'storage'" in wrong.stderr


@pytest.mark.slow
def test_a_stage_hands_itself_over_only_where_a_cluster_is_named(project, monkeypatch):
    """As `dvc repro` runs it: the very command of dvc.yaml."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines.filter", *words]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    here = run()
    assert here.returncode == 1 and "data/candidates" in here.stderr and "submit:" not in here.stderr
    monkeypatch.setenv("LORWEB_CLUSTER", "no address")
    there = run()
    assert there.returncode == 1 and "submit: 'no address' is no address of a job server" in there.stderr
    assert "for a run on this machine" in run("--faster").stderr
    monkeypatch.setenv("LORWEB_JOB", "lorweb-filter-0")
    assert run().stderr == here.stderr
    shutil.rmtree(project)
