"""The basis and its baselines on the frozen base -> models/candidate, models/baselines.

Killed at any moment and run again, it goes on from the newest whole checkpoint in .work/train/<fingerprint>/<variant>
and ends with the same bits.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from lorweb.config import Params, load_params
from lorweb.data.manifest import fingerprint, read_manifest
from lorweb.kontext.files import base_revision
from lorweb.kontext.load import resolve
from lorweb.records import stable_id
from lorweb.serving.tracking import tracking_uri
from lorweb.training.packages import require_package
from pipelines._mlflow_run import StageFacts, flatten, mlflow_run
from pipelines._stage import WORK, StageFailed, code_sha256, ray_session, stage, write_text
from pipelines._train_driver import fit
from pipelines._train_plan import TrainPlan
from pipelines._train_publish import finished_histories, publish, record, summary, write_curves

ENCODED, ANALOGIES = Path("data/encoded"), Path("data/analogies")
CANDIDATE, BASELINES = Path("models/candidate"), Path("models/baselines")
RUN_FILE: Final = "mlflow_run.json"
# They change speed and memory, or what is shown and kept, and the weights by rounding at most. A run may go on under
# other values of these.
RESOURCES: Final = (
    "workers",
    "gpus_per_worker",
    "accumulate",
    "gradient_checkpointing",
    "compile",
    "checkpoint_every",
    "keep_checkpoints",
    "sheet_rows",
)


def make_plan(params: Params) -> TrainPlan:
    """Everything the workers need; the MLflow run is not known yet.

    Raises:
        FileNotFoundError: the encode stage has not run, or there is no such base.
        StageFailed: the data were encoded with another base.
        ValueError: the optimiser's package is missing.
    """
    require_package(params.train.optimizer.name)
    revision = base_revision(resolve(params.encode.base))
    encoded_with = read_manifest(ENCODED)["params"]["base_revision"]
    if encoded_with != revision:
        raise StageFailed(
            f"data/encoded was made with base revision {encoded_with}, but {params.encode.base} is now {revision}; "
            "run `dvc repro -f encode` first"
        )
    section = params.train.model_dump(mode="json")
    facts = {
        "train": {name: value for name, value in section.items() if name not in RESOURCES},
        "seed": params.seed,
        "base": revision,
        "quadrant": params.encode.quadrant,
        "encoder": params.encode.encoder,
        "query_mode": params.encode.query_mode,
        "code": code_sha256("train"),
        "data": {"encoded": fingerprint(ENCODED), "analogies": fingerprint(ANALOGIES)},
    }
    identity = flatten(facts)
    work = WORK / "train" / stable_id(*sorted(identity.items()))
    return TrainPlan(
        section=section,
        seed=params.seed,
        base=params.encode.base,
        encoded=str(ENCODED.resolve()),
        analogies=str(ANALOGIES.resolve()),
        work=str(work.resolve()),
        identity=identity,
        tracking=tracking_uri(),
        run_id="",
    )


def main() -> None:
    """Run the stage from `params.yaml`."""
    params = load_params()
    with stage("train") as metrics:
        plan = make_plan(params)
        facts = StageFacts("train", plan.section, [ENCODED, ANALOGIES], read_manifest(ENCODED)["params"])
        with ray_session(), mlflow_run(facts, resume=earlier_run(plan)) as run:
            remember_run(plan, run.run_id)
            fit(replace(plan, run_id=run.run_id))
            histories = finished_histories(plan)
            record(run, plan, histories)
            publish(plan, histories, CANDIDATE, BASELINES)
            run.outputs([CANDIDATE, BASELINES])
            metrics.update(summary(plan, histories))
            write_curves(histories)


def earlier_run(plan: TrainPlan) -> str | None:
    """The MLflow run of an earlier start of the same work in the same database, so that it goes on."""
    path = Path(plan.work) / RUN_FILE
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found.get("run_id") if found.get("tracking") == plan.tracking else None


def remember_run(plan: TrainPlan, run_id: str) -> None:
    """Written before the first step, so that no kill can make a second run of the same training."""
    write_text(Path(plan.work) / RUN_FILE, json.dumps({"run_id": run_id, "tracking": plan.tracking}))


if __name__ == "__main__":
    main()
