"""Run stages as Ray jobs: `python -m cluster.submit STAGE|all --address http://HEAD:8265 --root /shared/project`.

The job runs the very command of dvc.yaml (`python -m pipelines.STAGE`). Only code is uploaded; data, models and
params.yaml stay in `--root`, a folder that every node sees under the same path.

Exit code: 0 fine, 1 a job failed, 2 bad usage.
"""

import asyncio
import hashlib
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from pipelines._upload import CODE, code_copy, code_files, upload

STAGES: Final = ("collect", "generate", "filter", "assemble", "encode", "train", "evaluate", "promote")
START_TRIES: Final = 20
LOOKS_OUTSIDE: Final = ("collect", "promote")  # at source folders, at the registry: never skipped
FORWARDED: Final = ("MLFLOW_TRACKING_URI", "HF_HOME")


def main(
    stage: Annotated[str, typer.Argument(help=f"one of {', '.join(STAGES)}, or all")],
    address: Annotated[str, typer.Option(help="the head's job server, http://HOST:8265")],
    root: Annotated[Path, typer.Option(help="project folder that every node sees; holds params.yaml")] = Path(),
    again: Annotated[bool, typer.Option("--again", help="run again although the same job succeeded before")] = False,
) -> None:
    """Submit, follow the log, and leave with the job's outcome."""
    if stage not in (*STAGES, "all"):
        _fail(f"no stage '{stage}'; use one of {', '.join(STAGES)}, or all", code=2)
    root = root.resolve()
    if not (root / "params.yaml").is_file():
        _fail(f"no params.yaml in {root}; --root must be the project folder", code=2)
    client = _client(address)
    for name in STAGES if stage == "all" else (stage,):
        _run(client, name, root, again)


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        _fail(
            f"no job server answers at {address} ({first}); start one with `ray start --head "
            "--dashboard-host 127.0.0.1` and, where it asks for a token, export RAY_AUTH_MODE=token"
        )


def _run(client: Any, stage: str, root: Path, again: bool) -> None:
    from ray.job_submission import JobStatus

    code = Path(__file__).parent.parent
    try:
        upload(code)  # checks the size before anything travels
    except ValueError as error:
        _fail(str(error))
    submission = submission_id(stage, code, root)
    status = _status(client, submission)
    ended = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.SUCCEEDED)
    if status in ended and (again or status != JobStatus.SUCCEEDED or not stands(stage, code, root)):
        client.delete_job(submission)
        status = None
    if status is None:
        _start(client, submission, entrypoint(stage, root), code)
    elif status == JobStatus.SUCCEEDED:
        print(f"{stage}: done before as {submission}; --again runs it once more")
        return
    print(f"{stage}: job {submission}", flush=True)
    asyncio.run(_follow(client, submission))
    status = client.get_job_status(submission)
    if status != JobStatus.SUCCEEDED:
        _fail(f"{stage}: job {submission} ended as {status}: {client.get_job_info(submission).message}")


def _start(client: Any, submission: str, command: str, code: Path) -> None:
    """Hand the job over with a copy of the code alone; a head that has only just started has no agent for jobs yet."""
    with code_copy(code) as folder:
        _try_to_start(client, submission, command, {"working_dir": str(folder), "env_vars": forwarded()})


def _try_to_start(client: Any, submission: str, command: str, environment: dict[str, Any]) -> None:
    for attempt in range(1, START_TRIES + 1):
        try:
            client.submit_job(entrypoint=command, submission_id=submission, runtime_env=environment)
            return
        except RuntimeError as error:  # what Ray raises for every refusal
            if "No available agent" not in str(error) or attempt == START_TRIES:
                _fail(f"the head refused job {submission}: {str(error).strip()}")
            time.sleep(3)


def _status(client: Any, submission: str) -> Any:
    """Status of a job of that id, None where there is none."""
    known = {job.submission_id: job.status for job in client.list_jobs()}
    return known.get(submission)


async def _follow(client: Any, submission: str) -> None:
    async for lines in client.tail_job_logs(submission):
        print(lines, end="", flush=True)


def entrypoint(stage: str, root: Path) -> str:
    """Code from the upload, everything else from the root. `-P` keeps a copy of the code in the root out of the way."""
    return f"code=$PWD && cd {shlex.quote(str(root))} && PYTHONPATH=$code exec python -P -m pipelines.{stage}"


def forwarded() -> dict[str, str]:
    """Settings that a job takes from here. Ray itself sets RAY_ADDRESS for the job."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    return quiet | {name: os.environ[name] for name in FORWARDED if name in os.environ}


def submission_id(stage: str, code: Path, root: Path) -> str:
    """The same stage, code, params and inputs give the same id, so that submitting twice starts one job."""
    digest = hashlib.sha256(stage.encode())
    for path in code_files(code):
        digest.update(str(path.relative_to(code)).encode() + path.read_bytes())
    digest.update((root / "params.yaml").read_bytes())
    for path in inputs(stage, code, root):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return f"lorweb-{stage}-{digest.hexdigest()[:12]}"


def stands(stage: str, code: Path, root: Path) -> bool:
    """Whether a stage that was done still counts: its outs are there, and it does not look at things outside them."""
    if stage in LOOKS_OUTSIDE:
        return False
    outs = yaml.safe_load((code / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["outs"]
    return all((root / (out if isinstance(out, str) else next(iter(out)))).exists() for out in outs)


def inputs(stage: str, code: Path, root: Path) -> Iterator[Path]:
    """Files that stand for the data and models a stage reads (its deps in dvc.yaml): manifests, or the file itself."""
    stages = yaml.safe_load((code / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for dep in stages[stage]["deps"]:
        path = root / dep
        if dep.split("/")[0] in CODE or not path.exists():
            continue
        yield from (
            [path] if path.is_file() else sorted(path.rglob("_manifest.json")) + sorted(path.rglob("metadata.json"))
        )


def _fail(sentence: str, code: int = 1) -> None:
    print(f"submit: {sentence}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
