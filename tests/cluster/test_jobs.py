"""Jobs on a real head that asks for a token, and that shares nothing with the submitter but a store."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from cluster.connection import Head
from cluster.errand import Errand
from cluster.faults import HeadError
from cluster.submit import Wishes, run
from tests.cluster.head import ROOT, submission, submit
from tests.cluster.proxy import Proxy

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def write_params(root: Path, store: str | None, sources: int = 4, **collect: object) -> None:
    """Small parameters on a store, or in a shared folder."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["collect"] |= {"readers": [{"reader": "photos", "crops": 1}], **collect}
    raw["generate"] |= {"sources_per_task": sources}
    raw["generate"]["editors"][0]["tasks"] = ["colour/sepia"]
    raw["storage"] = {"uri": store, "options": {}}
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(raw))


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared-by-nobody")
    write_params(folder / "project", f"file://{folder / 'store'}")
    return folder / "project"


@pytest.fixture(scope="module")
def collected(head: str, project: Path) -> subprocess.CompletedProcess[str]:
    """The first stage as a job; the environment names another cluster, as that of a job does."""
    return submit(head, "collect", "--root", str(project), RAY_ADDRESS="127.0.0.1:1")


def test_a_job_leaves_its_outs_where_dvc_looks(collected, project):
    assert collected.returncode == 0, collected.stdout + collected.stderr
    assert "Traceback" not in collected.stdout + collected.stderr and "13 kept" in collected.stdout
    assert (project / "data/sources/part-00000.parquet").is_file() and (project / "metrics/collect.json").is_file()
    assert {path.name for path in project.iterdir()} <= {"params.yaml", "data", "metrics", ".work"}


def test_what_was_done_before_is_fetched_and_what_the_store_lost_is_made_again(collected, head, project):
    first = submit(head, "generate", "--root", str(project))
    assert first.returncode == 0, first.stdout + first.stderr
    made = files(project / "data")
    assert any(name.startswith("candidates/part-") for name in made)
    shutil.rmtree(project / "data/candidates")
    again = submit(head, "generate", "--root", str(project))
    assert again.returncode == 0 and "done before" in again.stdout and files(project / "data") == made
    blobs = [path for path in (project.parent / "store/blobs").rglob("*") if path.is_file()]
    for blob in blobs:
        blob.unlink()
    shutil.rmtree(project / "data/candidates")
    lost = submit(head, "generate", "--root", str(project))
    assert lost.returncode == 0, lost.stdout + lost.stderr
    assert "done before" not in lost.stdout and files(project / "data") == made


def test_a_shared_folder_never_passes_off_outs_of_other_parameters(collected, head, project, tmp_path):
    root = tmp_path / "shared"
    write_params(root, None)
    shutil.copytree(project / "data/sources", root / "data/sources")

    def generate() -> tuple[str, dict[str, bytes]]:
        done = submit(head, "generate", "--root", str(root))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, files(root / "data")

    _, first = generate()
    write_params(root, None, sources=2)
    assert generate()[1] != first
    write_params(root, None)
    said, third = generate()  # the head knows that job, which succeeded
    assert "done before" not in said and third == first
    said, fourth = generate()
    assert "done before" in said and fourth == first


def test_a_stage_that_is_run_again_at_once_is_not_given_up(head, project, capsys):
    """Ray lets go of a job's name only a while after its end, and then ends whatever bears it by then."""
    errand, own = Errand("collect", project, (project / "params.yaml").read_text()), Head(head, 60)
    run(own, errand, Wishes(again=False, detach=True, cancel=False, forward=()))
    name = next(word for word in capsys.readouterr().out.split() if word.startswith("lorweb-"))
    while not own.job(name).status.is_terminal():
        time.sleep(0.02)
    run(Head(head, 60), errand, Wishes(again=False, detach=False, cancel=False, forward=()))
    assert f"files fetched to {project}" in capsys.readouterr().out


def test_two_submitters_of_an_ended_job_and_a_stop_of_a_forgotten_one(head):
    """One of two finds that the other has submitted it anew: that is no head that went away."""
    one, two = Head(head, 10), Head(head, 10)
    name = f"sleep-{time.time_ns()}"
    one.start(name, "sleep 600", {})
    begun = time.monotonic()
    two.forget(name)
    assert time.monotonic() - begun < 10 and not two.job(name).status.is_terminal()
    one.stop(name)
    two.stop("never-heard-of")


def test_a_failing_stage_is_exit_1_with_its_own_words(head, tmp_path):
    write_params(tmp_path / "project", f"file://{tmp_path / 'store'}")
    failing = submit(head, "filter", "--root", str(tmp_path / "project"))
    assert failing.returncode == 1 and "data/candidates" in failing.stdout and "ended as FAILED" in failing.stderr
    assert not (tmp_path / "project/data").exists()


def test_tokens_that_are_missing_or_wrong_are_sentences(head, project):
    words = ("generate", "--root", str(project))
    wrong = submit(head, *words, RAY_AUTH_TOKEN="f" * 64)
    assert wrong.returncode == 1 and "refused the token" in wrong.stderr and "Traceback" not in wrong.stderr
    none = submit(head, *words, RAY_AUTH_MODE="disabled")
    assert none.returncode == 1 and "export RAY_AUTH_MODE=token" in none.stderr and "Traceback" not in none.stderr


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a page or two of metadata, and no more."""
    if os.getuid() != 0:
        pytest.skip("a small file system is mounted for this test, which takes root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_store_is_a_sentence(head, tmp_path, tiny_disk):
    root = tmp_path / "project"
    write_params(root, f"file://{tiny_disk / 'store'}")
    far = submit(head, "collect", "--root", str(root))  # the job finds it full
    assert far.returncode == 1 and "ended as FAILED" in far.stderr and "free some space" in far.stdout
    assert "Traceback" not in far.stdout + far.stderr and not (root / "data").exists()
    (root / "data/sources").mkdir(parents=True)
    (root / "data/sources/part-00000.parquet").write_bytes(os.urandom(200_000))
    near = submit(head, "generate", "--root", str(root))  # the submitter does
    assert near.returncode == 1 and "free some space" in near.stderr and "Traceback" not in near.stderr
    assert not list(tiny_disk.rglob("*.tmp"))


def begin(head: str, *arguments: str) -> tuple["subprocess.Popen[str]", str]:
    """A submitter whose job has started; and the job's name."""
    process = subprocess.Popen(
        submission(head, *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background of a shell, they ignore Ctrl-C, and what they start would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  it does nothing else
    )
    seen = ""
    for line in process.stdout:
        seen += line
        if "input files fetched" in line:  # the stage runs
            return process, next(word for word in seen.split() if word.startswith("lorweb-"))
    raise AssertionError(seen + process.stderr.read())


def test_an_interrupt_leaves_the_job_or_stops_it_as_asked(head, tmp_path):
    root = tmp_path / "project"
    long = [{"reader": "dicebear", "styles": ["thumbs", "critters"], "seeds": 5000, "first_seed": 0}]  # minutes
    write_params(root, f"file://{tmp_path / 'store'}", readers=long)
    words = ("collect", "--root", str(root))
    process, name = begin(head, *words)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and f"job {name} goes on" in said and "Traceback" not in said
    known = Head(head, 60)
    assert not known.job(name).status.is_terminal()

    process, again = begin(head, *words, "--cancel-on-interrupt")
    assert again == name
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=150)
    assert process.returncode == 143 and "was stopped" in said and "Traceback" not in said
    assert known.job(name).status.is_terminal() and not (root / "data").exists()

    process, again = begin(head, *words, "--cancel-on-interrupt")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=150)
    assert process.returncode == 130 and "was stopped" in said and "Traceback" not in said
    assert again == name and known.job(name).status.is_terminal()

    process, _ = begin(head, *words)
    stage_process("pipelines.collect", name).kill()
    _, said = process.communicate(timeout=150)
    assert process.returncode == 137 and "ended as FAILED" in said and "Traceback" not in said


def stage_process(module: str, job: str) -> psutil.Process:
    for _ in range(600):  # a busy machine takes its time to start a job
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if module in process.cmdline() and process.environ().get("LORWEB_JOB") == job:
                    return process
        time.sleep(0.2)
    raise AssertionError(f"{module} does not run")


def test_a_lost_connection_is_taken_up_again_no_line_twice(head, capsys):
    proxy = Proxy(head)
    line = Head(proxy.address, patience=60)
    name = f"count-{time.time_ns()}"
    command = 'for i in $(seq 1 60); do echo "line $i of sixty"; sleep 0.2; done'
    line.start(name, command, {})
    breaks = threading.Timer(5, proxy.cut), threading.Timer(8, proxy.mend), threading.Timer(11, proxy.cut)
    for one in (*breaks, threading.Timer(13, proxy.mend)):
        one.start()
    ended = line.follow(name)
    printed = capsys.readouterr().out
    assert str(ended.status) == "SUCCEEDED" and ended.driver_exit_code == 0
    counted = [text for text in printed.splitlines() if text.endswith("of sixty")]
    assert counted == [f"line {i} of sixty" for i in range(1, 61)]
    assert printed.count("waiting up to") >= 1

    proxy.cut()
    with pytest.raises(HeadError, match="no job server answers"):
        Head(proxy.address, patience=2, awaited=True).job(name)
    assert Head(head, 0).job("never-heard-of") is None
