"""The basis and its baselines on the frozen base -> models/candidate, models/baselines.

Killed at any moment and run again, it goes on from the newest whole checkpoint in .work/train/<fingerprint>/<variant>
and ends with the same bits.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from lorweb.config import Params, load_params
from lorweb.data.manifest import fingerprint, read_manifest
from lorweb.kontext.files import base_revision
from lorweb.kontext.load import resolve
from lorweb.records import stable_id
from lorweb.serving.tracking import check_reachable, tracking_uri
from lorweb.training.packages import require_base_package, require_package
from pipelines._launch import hand_over
from pipelines._mlflow_run import StageFacts, StageRun, flatten, mlflow_run
from pipelines._node import store
from pipelines._stage import WORK, StageFailed, code_sha256, ray_session, stage
from pipelines._train_depot import put_data, take_in
from pipelines._train_driver import fit
from pipelines._train_log import be_brief_with_mlflow, not_shared
from pipelines._train_plan import TrainPlan
from pipelines._train_publish import deliver, finished_histories, publish, summary, write_curves
from pipelines._train_resume import adopt, earlier_run, other_training, remark, remember_run
from pipelines._train_stop import Sigterm

ENCODED, ANALOGIES = Path("data/encoded"), Path("data/analogies")
CANDIDATE, BASELINES = Path("models/candidate"), Path("models/baselines")
# They change speed and memory, or what is shown and kept, and the weights by rounding at most. A run may go on under
# other values of these.
RESOURCES: Final = (
    "workers",
    "sharding",
    "shard_base",
    "gpus_per_worker",
    "accumulate",
    "gradient_checkpointing",
    "offload_activations",
    "compile",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_best",
    "async_checkpoints",
    "sheet_rows",
    "alarms",
)


def make_plan(params: Params) -> TrainPlan:
    """Everything the workers need; the MLflow run is not known yet.

    Raises:
        FileNotFoundError: the encode stage has not run, or there is no such base.
        StageFailed: the data were encoded with another base.
        ValueError: the package of the optimiser or of the quantised base is missing.
    """
    require_package(params.train.optimizer.name)
    require_base_package(params.train.base_weights)
    revision = base_revision(resolve(params.encode.base))
    encoded_with = read_manifest(ENCODED)["params"]["base_revision"]
    if encoded_with != revision:
        raise StageFailed(
            f"data/encoded was made with base revision {encoded_with}, but {params.encode.base} is now {revision}; "
            "run `dvc repro -f encode` first"
        )
    section = params.train.model_dump(mode="json")
    facts = {
        "train": _deciding(section),
        "seed": params.seed,
        "base": revision,
        "quadrant": params.encode.quadrant,
        "encoder": params.encode.encoder,
        "query_mode": params.encode.query_mode,
        "code": code_sha256("train"),
        "data": {"encoded": fingerprint(ENCODED), "analogies": fingerprint(ANALOGIES)},
    }
    identity = flatten(facts)
    work, shared = WORK / "train" / stable_id(*sorted(identity.items())), store()
    return TrainPlan(
        section=section,
        seed=params.seed,
        base=params.encode.base,
        encoded=str(ENCODED if shared else ENCODED.resolve()),
        analogies=str(ANALOGIES if shared else ANALOGIES.resolve()),
        work=str(work if shared else work.absolute()),  # .work may be a link to another disk
        identity=identity,
        tracking=tracking_uri(),
        run_id="",
        storage=asdict(shared) if shared else None,
    )


def _deciding(section: Mapping[str, Any]) -> dict[str, Any]:
    """Of the train section what the published weights depend on."""
    published = {"keep_best"} if section["publish"] == "best" else set()  # it says which step that is
    return {name: value for name, value in section.items() if name not in set(RESOURCES) - published}


def main(arguments: Sequence[str] = ()) -> None:
    """Run the stage from `params.yaml`."""
    given = _options().parse_args(arguments)
    params = load_params()
    be_brief_with_mlflow()
    with stage("train") as metrics:
        plan = make_plan(params)
        for sentence in _take_up(plan, given):
            print(f"train: {sentence}", file=sys.stderr, flush=True)
        facts = StageFacts("train", plan.section, [ENCODED, ANALOGIES], read_manifest(ENCODED)["params"])
        with ray_session(), Sigterm() as sigterm, tracked(plan, facts) as run:
            remember_run(plan, run.run_id)
            started = replace(plan, run_id=run.run_id, started=f"{os.getpid()}-{time.time_ns()}")
            fit(put_data(started), sigterm)
            take_in(plan)
            histories = finished_histories(plan)
            publish(plan, histories, CANDIDATE, BASELINES)
            metrics.update(summary(plan, histories))
            write_curves(histories)
            deliver(run, plan, histories, [CANDIDATE, BASELINES])


@contextmanager
def tracked(plan: TrainPlan, facts: StageFacts) -> Iterator[StageRun]:
    """The MLflow run of this training. One that goes on does so although its server is away for now.

    Raises:
        ValueError: the server is away, and there is no run yet.
    """
    earlier = earlier_run(plan)
    try:
        check_reachable(plan.tracking, create=True)
    except ValueError as error:
        if earlier is None:
            raise
        from mlflow import MlflowClient

        print(f"train: {error}; training goes on, and its run hears of it later", file=sys.stderr, flush=True)
        run = StageRun(MlflowClient(plan.tracking), earlier)
        yield run
        run.client.set_terminated(earlier, "FINISHED")
        return
    with mlflow_run(facts, resume=earlier) as run:
        yield run


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m pipelines.train", description=__doc__)
    options.add_argument(
        "--resume-from",
        type=Path,
        metavar="FOLDER",
        help="go on from the checkpoints of this training, a folder below .work/train, where there are none of its own",
    )
    options.add_argument(
        "--allow-mismatch",
        action="store_true",
        help="although it was trained under other settings, which are listed; without --resume-from: from the training "
        "that had the newest checkpoint",
    )
    return options


def _take_up(plan: TrainPlan, given: argparse.Namespace) -> list[str]:
    """Put another training's checkpoints under this plan if that was asked for; what to tell the person."""
    source = given.resume_from or (other_training(plan) if given.allow_mismatch else None)
    if source is not None:
        return adopt(plan, source, given.allow_mismatch)
    if given.allow_mismatch:
        where = Path(plan.work).parent if plan.store is None else f"work/train of the store {plan.store.uri}"
        return [f"no other training has a checkpoint below {where}: nothing to go on from"]
    said = [sentence] if (sentence := remark(plan)) else []
    if plan.store is not None and not_shared(plan.tracking):
        said.append(
            f"MLflow is a file of this machine ({plan.tracking}), which other nodes do not see: curves are sent at the "
            "end; set MLFLOW_TRACKING_URI to a server to watch them"
        )
    return said


if __name__ == "__main__":
    hand_over("train")
    main(sys.argv[1:])
