"""What training leaves behind: models/candidate, models/baselines, curves for DVC's plots, and artifacts in MLflow."""

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open

from lorweb.data.manifest import read_manifest
from lorweb.kontext.load import read_defaults, resolve
from lorweb.kontext.metadata import ModelMetadata, write_metadata
from lorweb.serving.tracking import check_reachable
from lorweb.training.health import bounds_of, first_alarms
from lorweb.training.loop import History
from lorweb.training.state import load_checkpoint, newest_whole
from lorweb.training.stopping import is_over, published_step
from pipelines._mlflow_run import StageRun
from pipelines._stage import StageFailed, publishing, write_text
from pipelines._train_depot import handed_in_history
from pipelines._train_log import CurveLog
from pipelines._train_plan import WEIGHTS, TrainPlan, variant_folder

LOSS_CSV: Final = Path("metrics/train_loss.csv")
VALIDATION_CSV: Final = Path("metrics/train_validation.csv")


def finished_histories(plan: TrainPlan) -> dict[str, History]:
    """What each variant has measured up to its last checkpoint."""
    histories = {}
    for name in plan.variants:
        histories[name] = _history(plan, name) if plan.store is None else handed_in_history(plan, name)
        over = is_over(histories[name].validation, plan.config)
        assert over or histories[name].step == plan.config.steps, (name, histories[name].step)
    return histories


def _history(plan: TrainPlan, name: str) -> History:
    path, _ = newest_whole(variant_folder(plan, name))
    assert path is not None, f"{name} has no whole checkpoint after training"
    return History.of(load_checkpoint(path, {**plan.identity, "variant": name}))


def publish(plan: TrainPlan, histories: Mapping[str, History], candidate: Path, baselines: Path) -> None:
    """The candidate and all baselines, each in one rename; equal runs give equal bytes."""
    with publishing(candidate, "train") as folder:
        _fill(folder, plan, "lorweb", histories["lorweb"])
    with publishing(baselines, "train") as folder:
        write_text(folder / "baselines.json", json.dumps(list(plan.config.baselines)) + "\n")
        for name in plan.config.baselines:
            (folder / name).mkdir()
            _fill(folder / name, plan, name, histories[name])


def _fill(folder: Path, plan: TrainPlan, name: str, history: History) -> None:
    """Weights and metadata of one variant. Nothing in it may differ between two runs of the same training."""
    shutil.copytree(variant_folder(plan, name) / WEIGHTS, folder, dirs_exist_ok=True)
    defaults, encoded = read_defaults(resolve(plan.base)), read_manifest(Path(plan.encoded))["params"]
    metadata = ModelMetadata(
        base=plan.base,
        base_revision=encoded["base_revision"],
        encoder=encoded["encoder"],
        encoder_revision=encoded["encoder_revision"],
        quadrant=encoded["quadrant"],
        num_inference_steps=defaults.num_inference_steps,
        guidance_scale=defaults.guidance_scale,
        extra=_extra(plan, name, history, encoded),
        latents=encoded.get("latents", "quadrant"),
    )
    write_metadata(folder, metadata)


def _extra(plan: TrainPlan, name: str, history: History, encoded: Mapping[str, Any]) -> dict[str, Any]:
    basis = plan.config.basis
    return {
        "variant": name,
        **_rank(plan, name),
        "targets": list(basis.targets),
        "query_mode": basis.internal.mode if basis.internal else encoded["query_mode"],
        "catalogue_sha256": encoded["catalogue_sha256"],
        "data": {
            key.removeprefix("data."): json.loads(v) for key, v in plan.identity.items() if key.startswith("data.")
        },
        "steps": published_step(history.validation, history.step, plan.config),
        "seed": plan.seed,
        "caption_dropout": plan.config.caption_dropout,
        "validation": _losses(plan, history),
        **({"resumed": [_past(row) for row in history.resumed]} if history.resumed else {}),
    }


def _losses(plan: TrainPlan, history: History) -> dict[str, float]:
    """Validation losses of the published step by split."""
    step = published_step(history.validation, history.step, plan.config)
    found = {row["split"]: row["loss"] for row in history.validation if row["step"] <= step}
    return dict(sorted(found.items()))


def _rank(plan: TrainPlan, name: str) -> dict[str, Any]:
    """Of one LoRA of a basis, or of a plain one; the extremes where its layers differ."""
    basis = plan.config.basis
    if name == "single_lora_equal":
        shapes = _shapes(variant_folder(plan, name) / WEIGHTS)
        ranks = [shape[0] for key, shape in shapes.items() if key.endswith(".lora_A.weight")]
        return {"ranks": {"least": min(ranks), "most": max(ranks)}}
    return {"rank": basis.n_loras * basis.rank if name == "single_lora" else basis.rank}


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Of all that was trained: what a variant's weights file holds."""
    (path,) = folder.glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def _past(resumed: Mapping[str, Any]) -> dict[str, Any]:
    """Which steps were trained under other settings; not in which MLflow run, whose id is drawn by chance."""
    return {key: resumed[key] for key in ("step", "differences")}


def summary(plan: TrainPlan, histories: Mapping[str, History]) -> dict[str, Any]:
    """metrics/train.json, per variant: number of trained values, mean loss of the last tenth, validation losses of what
    is published, the newest health of its basis, and sentences on what it had to warn of.
    """
    found: dict[str, Any] = {"steps": plan.config.steps}
    for name, history in histories.items():
        tail = history.curves["loss"][-max(1, history.step // 10) :]
        health = {key: value for key, value in history.health[-1].items() if key != "step"} if history.health else {}
        losses = {f"validation_{split}": loss for split, loss in _losses(plan, history).items()}
        size = sum(math.prod(shape) for shape in _shapes(variant_folder(plan, name) / WEIGHTS).values())
        found[name] = {"parameters": size, "loss": sum(tail) / len(tail), **losses, **health}
        if history.step < plan.config.steps or plan.config.publish == "best":
            step = published_step(history.validation, history.step, plan.config)
            found[name] |= {"steps": history.step, "published_step": step}
        warned = [alarm.sentence for alarm in first_alarms(history.health, bounds_of(plan.config, name))]
        found[name] |= {"alarms": warned} if warned else {}
    return found


def write_curves(histories: Mapping[str, History]) -> None:
    """CSV files that DVC plots: one line per step, and one per validation and split."""
    loss = [
        (step, value, name)
        for name, history in histories.items()
        for step, value in enumerate(history.curves["loss"], 1)
    ]
    validation = [
        (row["step"], row["loss"], row["split"], name)
        for name, history in histories.items()
        for row in history.validation
    ]
    write_text(LOSS_CSV, _csv(("step", "loss", "variant"), loss))
    write_text(VALIDATION_CSV, _csv(("step", "loss", "split", "variant"), validation))


def record(run: StageRun, plan: TrainPlan, histories: Mapping[str, History]) -> None:
    """Curves that no worker could send, sheets, the basis' health and weights, into the MLflow run."""
    for name, history in histories.items():
        folder = variant_folder(plan, name)
        log = CurveLog(run.client, run.run_id, name, bounds_of(plan.config, name))
        log.send(history)
        log.send_sheets(folder / "sheets")
        for part in ("health", WEIGHTS):
            if (folder / part).is_dir():
                run.artifacts(folder / part, f"{name}/{part}")


def deliver(run: StageRun, plan: TrainPlan, histories: Mapping[str, History], outputs: Sequence[Path]) -> None:
    """`record`, and what the stage has published, once everything else is done.

    Raises:
        StageFailed: the MLflow server is gone; the models are published all the same.
    """
    from mlflow.exceptions import MlflowException

    try:
        check_reachable(plan.tracking, create=True)
        record(run, plan, histories)
        run.outputs(outputs)
    except (MlflowException, OSError, ValueError) as error:
        raise StageFailed(
            f"the models are trained and published, but MLflow did not take all of run {run.run_id} ({error}); when it "
            "is back, run the same command again: nothing is trained twice"
        ) from error


def _csv(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()
