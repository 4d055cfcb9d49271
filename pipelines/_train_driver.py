"""The driver's side of training: one Ray Train run over all workers, and a progress line."""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from lorweb.storage.store import StorageError
from pipelines._stage import WORK, StageFailed
from pipelines._train_plan import TrainPlan, train_worker
from pipelines._train_stop import Sigterm, end_preempted, torch_config
from pipelines._train_told import PROGRESS, REFUSAL, STOPPED, Told, forget_earlier, told_of

MAX_FAILURES: Final = 2  # deaths of workers that one run survives; the next start of the stage survives as many again
_POLL: Final = 0.5  # s


def fit(plan: TrainPlan, sigterm: Sigterm) -> None:
    """Run `train_worker` in `plan.config.workers` processes until all variants are trained.

    Raises:
        StageFailed: a worker refused (the message is its own), workers died more than MAX_FAILURES times, or there are
            fewer CPUs or GPUs than they need.
        SystemExit: SIGTERM came, and training has stopped with a checkpoint.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    _check_resources(plan)
    forget_earlier(plan)
    told = told_of(plan)
    storage = (WORK / "train" / "ray").resolve()
    shutil.rmtree(storage, ignore_errors=True)
    with showing_progress(told), sigterm.passed_on(told):
        _run(plan, storage, sigterm)
    shutil.rmtree(storage, ignore_errors=True)
    if refused := _refused(told):
        raise StageFailed(refused)
    if stopped := told.heard(STOPPED):
        found = json.loads(stopped)
        kept = ", with a checkpoint of it" if found["step"] else ""
        end_preempted(f"stopped by SIGTERM after step {found['step']} of {found['variant']}{kept}")


def _check_resources(plan: TrainPlan) -> None:
    """A local Ray never grows, and Ray Train would wait for what it lacks for ever; a cluster may grow."""
    import ray

    asked, there = plan.config, ray.cluster_resources()
    for kind, each in (("CPU", 1.0), ("GPU", asked.gpus_per_worker)):
        if (needed := asked.workers * each) <= there.get(kind, 0):
            continue
        sentence = (
            f"train.workers is {asked.workers}, which takes {needed:g} {kind}s, and Ray has {there.get(kind, 0):g}"
        )
        if not os.environ.get("RAY_ADDRESS"):
            raise StageFailed(
                f"{sentence}; lower train.workers or train.gpus_per_worker, or set RAY_ADDRESS to a cluster with more"
            )
        print(f"train: {sentence}; waiting for the cluster to grow", file=sys.stderr, flush=True)


def _run(plan: TrainPlan, storage: Path, sigterm: Sigterm) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    gpus = plan.config.gpus_per_worker
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=asdict(plan),
        torch_config=torch_config("nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.config.workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(
            name=f"run-{os.getpid()}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        refused = _refused(told_of(plan))
        if sigterm.came and not refused:  # a scheduler may end the processes of Ray by the same signal
            end_preempted("stopped by SIGTERM; the workers ended before they could write a checkpoint")
        if isinstance(error, TrainingFailedError):
            raise StageFailed(refused or _why(error)) from error
        raise


def _refused(told: Told) -> str:
    """What a worker refused with; "" if none did, or the place cannot be asked."""
    try:
        said = told.heard(REFUSAL)
    except StorageError:
        return ""
    return str(json.loads(said)["message"]) if said else ""


def _why(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (
        f"the training workers failed ({lines[-1] if lines else type(error).__name__}); "
        "run the same command again to go on from the newest checkpoint"
    )


@contextmanager
def showing_progress(told: Told) -> Iterator[None]:
    """Show what the workers say: warnings, and rank 0's progress.

    Progress is a live line on a terminal, a plain line now and then in a log.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_show, args=(told, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show(told: Told, stop: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}
        told_at, known, ended = 0.0, set[str](), False
        while not ended:
            ended = stop.wait(max(_POLL, told.pace))  # and one more look
            try:
                notes, said = told.notes(known), told.heard(PROGRESS)
            except StorageError:  # it is only for show: the workers say what is wrong with the place
                continue
            for note in notes:
                console.print(f"train: {note}", highlight=False, soft_wrap=True, markup=False)
            if said is None:
                continue
            found = json.loads(said)
            name, line = found["variant"], _line(found)
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=found["steps"], told="")
            bars.update(tasks[name], completed=found["step"], told=line)
            if not console.is_terminal and time.monotonic() - told_at > 30:
                told_at = time.monotonic()
                console.print(f"{name}: {line}", highlight=False, soft_wrap=True)


def _line(found: dict[str, Any]) -> str:
    parts = [f"step {found['step']}/{found['steps']}", f"loss {found['loss']:.4f}"]
    if found["rate"]:
        left = (found["steps"] - found["step"]) / found["rate"]
        parts.append(f"{found['rate']:.1f} steps/s, {left:.0f} s left")
    splits = [f"{split} {found[split]:.4f}" for split in ("seen", "unseen") if found.get(split) is not None]
    return ", ".join(parts + (["validation " + " ".join(splits)] if splits else []))
