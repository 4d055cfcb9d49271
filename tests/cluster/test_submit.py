"""Stages as Ray jobs, against a real head with its job server; data stay in the project folder, only code travels."""

import shutil
from pathlib import Path

import pytest
import yaml

from cluster.submit import entrypoint, submission_id
from pipelines._upload import MAX_UPLOAD, code_files, upload
from tests.cluster.head import ROOT, free_port, submit


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with nothing but small parameters."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["collect"]["readers"] = [{"reader": "photos", "crops": 1}]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path


def test_only_code_is_uploaded() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in code_files(ROOT)}
    assert names == {"lorweb", "pipelines", "cluster", "dvc.yaml"}
    assert 100_000 < upload(ROOT) < MAX_UPLOAD
    assert not [path for path in code_files(ROOT) if path.suffix == ".pyc"]


def test_the_entrypoint_takes_code_from_the_upload_and_data_from_the_root(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    assert "python -P -m pipelines.generate" in entrypoint("generate", folder)
    assert f"'{folder}'" in entrypoint("generate", folder)


def test_the_same_work_has_the_same_id_and_changed_parameters_another(project: Path) -> None:
    first = submission_id("collect", ROOT, project)
    (project / "data/sources").mkdir(parents=True)
    (project / "data/sources/_manifest.json").write_text("{}")  # the stage's own output does not count
    assert submission_id("collect", ROOT, project) == first
    assert submission_id("generate", ROOT, project) != first
    with (project / "params.yaml").open("a") as file:
        file.write("# changed\n")
    assert submission_id("collect", ROOT, project) != first


def test_no_head_and_no_stage_are_sentences(project: Path) -> None:
    absent = submit(f"http://127.0.0.1:{free_port()}", "collect", "--root", str(project))
    assert absent.returncode == 1 and "no job server answers" in absent.stderr and "Traceback" not in absent.stderr
    wrong = submit("http://127.0.0.1:1", "colect", "--root", str(project))
    assert wrong.returncode == 2 and "no stage 'colect'" in wrong.stderr


@pytest.mark.ray
def test_a_stage_runs_as_a_job(head: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    first = submit(head, "collect", "--root", str(project))
    assert first.returncode == 0, first.stdout + first.stderr
    assert (project / "data/sources/part-00000.parquet").is_file()
    assert (project / "metrics/collect.json").is_file()
    assert not (project / "lorweb").exists(), "code was copied into the project folder"

    again = submit(head, "collect", "--root", str(project))
    assert again.returncode == 0 and "done before" not in again.stdout, "collect looks at its sources every time"

    shutil.rmtree(project / "data")
    failing = submit(head, "filter", "--root", str(project))
    assert failing.returncode == 1
    assert "FAILED" in failing.stderr and "data/candidates" in failing.stdout + failing.stderr
