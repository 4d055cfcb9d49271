"""What counts as done in a shared folder, and how a job's end is told: without a cluster."""

import json
import sys
from pathlib import Path

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from cluster import connection, job
from cluster.errand import Errand, outs
from cluster.faults import HeadError
from cluster.kept import keep, stands
from cluster.outcome import headless, verdict
from tests.cluster.head import ROOT


def make(root: Path, text: str) -> None:
    """Outs of the stage `filter`, as some parameters make them."""
    for out in outs("filter"):
        path = root / out if Path(out).suffix else root / out / "part-00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "data/pairs/_manifest.json").write_text(json.dumps({"of": text}))


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_stage_that_fails_in_a_shared_folder_leaves_no_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORWEB_JOB", "job-a")
    monkeypatch.delenv("LORWEB_STORE", raising=False)
    monkeypatch.setattr(sys, "argv", ["job", "filter"])
    with pytest.raises(SystemExit) as left:  # no params.yaml there
        job.main()
    assert left.value.code == 1 and not (tmp_path / ".work/jobs/filter.json").exists()


@pytest.mark.parametrize("edited", [False, True])
def test_what_is_edited_while_a_job_waits_or_runs_is_not_passed_off_as_its_own(tmp_path, monkeypatch, edited):
    """In a shared folder the stage reads params.yaml when it begins, which may be long after the job was named."""
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    other = params.replace("max_error_rate: 0.01", "max_error_rate: 0.02")
    assert other != params

    def stage(_name, root, _lock):
        make(root, "A")
        if edited:
            (root / "params.yaml").write_text(other)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "call", stage)
    monkeypatch.setenv("LORWEB_READS", Errand("filter", tmp_path, params).shared_reads())
    (tmp_path / "params.yaml").write_text(params)
    if edited:
        with pytest.raises(SystemExit, match="have changed since this job was submitted"):
            job._run_here("filter", "job-a")
        with pytest.raises(SystemExit, match="have changed since this job was submitted"):
            job._run_here("filter", "job-a")  # now before the stage is begun
    else:
        job._run_here("filter", "job-a")
    assert stands(tmp_path, "filter", "job-a") != edited


def test_one_job_of_a_stage_works_in_a_shared_folder(tmp_path):
    with (
        job.alone(tmp_path, "filter"),
        job.alone(tmp_path, "encode"),
        pytest.raises(SystemExit, match="another job of this stage works in the same folder"),
        job.alone(tmp_path, "filter", patience=0.3),
    ):
        pass
    with job.alone(tmp_path, "filter", patience=0):
        pass


class Logless:
    """A job server whose job is known, and whose log breaks off: before anything of it came, or after some text."""

    def __init__(self, status: JobStatus, text: str = "") -> None:
        self.status, self.text, self.tails = status, text, 0

    def get_job_info(self, _name: str) -> JobDetails:
        return ended(self.status, None)

    async def tail_job_logs(self, _name: str):
        self.tails += 1
        if self.text:
            yield self.text
        raise RuntimeError("connection closed with code 1006")


@pytest.mark.slow
def test_a_log_that_never_comes_ends_in_the_state_or_a_sentence(monkeypatch):
    monkeypatch.setattr(connection, "PAUSE", 0.05)
    head = connection.Head("http://127.0.0.1:1", patience=0.4)
    for text in ("", "a line\n"):
        head._client = failed = Logless(JobStatus.FAILED, text)
        assert head.follow("job").status == JobStatus.FAILED and 2 <= failed.tails < 20, "the head is not hammered"
    head._client = Logless(JobStatus.RUNNING)
    with pytest.raises(HeadError, match="gave no log of job job"):
        head.follow("job")


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
