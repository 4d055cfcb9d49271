"""What counts as done in a shared folder, and how a job's end is told: without a cluster."""

import json
import sys
from pathlib import Path

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from cluster import job
from cluster.errand import outs
from cluster.kept import keep, stands
from cluster.outcome import headless, verdict


def make(root: Path, text: str) -> None:
    """Outs of the stage `filter`, as some parameters make them."""
    for out in outs("filter"):
        path = root / out if Path(out).suffix else root / out / "part-00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "data/pairs/_manifest.json").write_text(json.dumps({"of": text}))


def test_outs_of_other_parameters_are_not_those_of_a_job(tmp_path):
    make(tmp_path, "A")
    assert not stands(tmp_path, "filter", "job-a")  # made by nobody knows whom
    keep(tmp_path, "filter", "job-a")
    assert stands(tmp_path, "filter", "job-a") and not stands(tmp_path, "filter", "job-b")
    make(tmp_path, "B")  # by a run on this machine, which leaves no note
    assert not stands(tmp_path, "filter", "job-a")
    keep(tmp_path, "filter", "job-b")
    assert stands(tmp_path, "filter", "job-b") and not stands(tmp_path, "filter", "job-a")
    make(tmp_path, "A")
    assert not stands(tmp_path, "filter", "job-a") and not stands(tmp_path, "filter", "job-b")


def test_a_missing_part_or_a_broken_note_is_made_again(tmp_path):
    make(tmp_path, "A")
    keep(tmp_path, "filter", "job-a")
    (tmp_path / "data/pairs/part-00000.parquet").unlink()
    assert not stands(tmp_path, "filter", "job-a")
    keep(tmp_path, "filter", "job-a")
    (tmp_path / "metrics/filter.json").write_text("other")
    assert not stands(tmp_path, "filter", "job-a")
    (tmp_path / ".work/jobs/filter.json").write_text('{"job": "job-a"')
    assert not stands(tmp_path, "filter", "job-a")


def test_a_stage_that_fails_in_a_shared_folder_leaves_no_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORWEB_JOB", "job-a")
    monkeypatch.delenv("LORWEB_STORE", raising=False)
    monkeypatch.setattr(sys, "argv", ["job", "filter"])
    with pytest.raises(SystemExit) as left:  # no params.yaml there
        job.main()
    assert left.value.code == 1 and not (tmp_path / ".work/jobs").exists()


def ended(status: JobStatus, code: int | None) -> JobDetails:
    """As Ray tells it."""
    return JobDetails(type=JobType.SUBMISSION, status=status, entrypoint="", message="why", driver_exit_code=code)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 1, 1),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, 3, 3),
        (JobStatus.FAILED, 130, 130),
        (JobStatus.FAILED, 137, 137),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),
        (JobStatus.FAILED, 143, 143),
        (JobStatus.FAILED, -15, 143),
        (JobStatus.STOPPED, None, 143),
    ],
)
def test_the_exit_code_is_the_job_s(status, code, expected):
    sentence, given = verdict("job-a", ended(status, code), 3)
    assert given == expected and bool(sentence) == bool(expected)
    assert headless(ended(status, code)) == (status == JobStatus.FAILED and code is None)


def test_a_job_that_no_head_knows_is_a_failure():
    sentence, code = verdict("job-a", None, 3)
    assert code == 1 and "forgot job job-a 3 times" in sentence and headless(None)
