"""What runs in every Ray Train worker: all variants, one after the other, on this worker's part of each batch."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lorweb.basis.health_files import write_health
from lorweb.config import Train
from lorweb.data.shards import read_table
from lorweb.kontext.load import Base
from lorweb.records import ANALOGY
from lorweb.training import reduce
from lorweb.training.baseline import new_variant
from lorweb.training.course import never, restore_published
from lorweb.training.dataset import Encoded, Triple, load_train_pairs
from lorweb.training.ema import new_ema
from lorweb.training.frozen import load_frozen, settle
from lorweb.training.health import basis_health, bounds_of
from lorweb.training.loop import History, Keeper, Stopped, train
from lorweb.training.optimizer import build_optimizer
from lorweb.training.sampler import AnalogySampler, other_exemplar
from lorweb.training.sharding import Shards
from lorweb.training.sheets import write_sheet
from lorweb.training.step import NonFiniteError, Run, StepResult
from lorweb.training.validation import HeldOut, ValidationSet, all_of, choose
from lorweb.training.variants import basis_config
from pipelines._stage import write_text
from pipelines._train_log import CurveLog, Progress, be_brief_with_mlflow, send_or_warn
from pipelines._train_notes import noting_warnings
from pipelines._train_plan import (
    NOTES,
    PROGRESS,
    REFUSAL,
    STOPPED,
    WEIGHTS,
    TrainPlan,
    told_folder,
    variant_folder,
)
from pipelines._train_stop import asked


def train_all(plan: TrainPlan) -> None:
    """Every variant in turn. What a retry cannot change is written down and ends the worker quietly.

    That is a refusal, or that the training was told to stop.
    """
    _prepare_torch(plan.config)
    be_brief_with_mlflow()
    told, (rank, workers) = told_folder(plan), reduce.world()
    if (told / REFUSAL).is_file():  # some worker refused, and Ray has started all again
        return
    with noting_warnings(told / NOTES):
        try:
            for name in plan.variants:
                train_one(plan, name, asked(told, rank))
        except Stopped as stopped:
            if rank == 0:
                write_text(told / STOPPED, json.dumps({"variant": name, "step": stopped.step}))
        except (NonFiniteError, ValueError, OSError) as error:
            write_text(told / REFUSAL, json.dumps({"rank": rank, "message": str(error)}))
            if workers > 1 and not isinstance(error, NonFiniteError):
                raise  # the other workers wait for this one: Ray has to end them


def train_one(plan: TrainPlan, name: str, stop: Callable[[], bool] = never) -> History:
    """Train one variant to its end, or go on where its newest checkpoint stands; its weights lie in the work folder.

    Raises:
        Stopped: see `lorweb.training.loop.train`.
    """
    base = load_frozen(plan.base, plan.config, _device(plan.config))  # a fresh one: the last variant went with its own
    encoded = Encoded.load(Path(plan.encoded))
    run = make_run(plan, name, base, encoded)
    held_out = held_out_sets(plan, encoded)
    keeper = Keeper(
        run.folder,
        {**plan.identity, "variant": name},
        {"mlflow": {"run_id": plan.run_id, "tracking": plan.tracking}},
    )
    hooks = _Hooks(plan, run, base, held_out)
    history = train(run, held_out, keeper, hooks, stop)
    if reduce.world()[0] == 0 or plan.config.shard_base:
        reduce.from_first(0, run.device)  # rank 0 has written its last checkpoint
        hooks.finished(restore_published(run, keeper, history))
    return history


def held_out_sets(plan: TrainPlan, encoded: Encoded) -> list[ValidationSet]:
    """Validation analogies, seen and unseen; splits without any are left out."""
    config = plan.config
    rows = [row for row in read_table(Path(plan.analogies), ANALOGY).to_pylist() if row["split"] == "val"]
    found: dict[str, list[HeldOut]] = {"seen": [], "unseen": []}
    for row in rows:
        text = row["instruction"] if config.caption_dropout < 1 else ""  # as in training: never seen, never asked
        split = "seen" if row["holdout"] == "none" else "unseen"
        other = other_exemplar(row, rows) or row["exemplar"]
        found[split].append(HeldOut(row["id"], row["task"], Triple(row["exemplar"], row["query"], text), other))
    _check_encoded(encoded, {pair for row in rows for pair in (row["exemplar"], row["query"])})
    return [choose(all_, split, config.validation_analogies, plan.seed) for split, all_ in found.items() if all_]


def _check_encoded(encoded: Encoded, pairs: set[str]) -> None:
    missing = sorted(pairs - set(encoded.pairs))
    if missing:
        raise ValueError(
            f"{len(missing)} pairs of data/analogies are not in data/encoded, first {missing[0]}; run the encode stage"
        )


def make_run(plan: TrainPlan, name: Any, base: Base, encoded: Encoded) -> Run:
    """A variant on the base, untrained, and all that its steps read. Raises ValueError: the data do not fit."""
    config = plan.config
    variant = new_variant(
        name, base.transformer, basis_config(config.basis, encoded.query_dim, encoded.query_mode), plan.seed
    )
    settle(base, config, _device(config))
    if config.gradient_checkpointing:
        base.transformer.enable_gradient_checkpointing()
    if config.compile:
        base.transformer.compile_repeated_blocks()
    pairs = load_train_pairs(Path(plan.analogies))
    _check_encoded(encoded, {pair.pair for pair in pairs})
    sampler = AnalogySampler(pairs, plan.seed, config.batch_size, config.caption_dropout, encoded.pool)
    shards = Shards(config.sharding, variant.parameters)
    optimizer = build_optimizer(shards.own(variant.adapters), shards.own(variant.router), config.optimizer)
    ema = new_ema(config.ema, variant.parameters)
    return Run(variant, encoded, sampler, optimizer, config, variant_folder(plan, name), ema, shards)


class _Hooks:
    """Rank 0's voice: progress, curves, sheets, and the weights at the end.

    Other ranks only help with what runs the model, where each has a share of the base.
    """

    def __init__(self, plan: TrainPlan, run: Run, base: Base, held_out: list[ValidationSet]) -> None:
        from mlflow import MlflowClient

        self.run, self.base, self.held_out, self.tracking = run, base, held_out, plan.tracking
        bounds = bounds_of(plan.config, run.variant.name)
        self.log = CurveLog(MlflowClient(plan.tracking), plan.run_id, run.variant.name, bounds)
        self.first = reduce.world()[0] == 0
        self.progress = Progress(told_folder(plan) / PROGRESS, run.variant.name, run.config.steps)

    def stepped(self, step: int, result: StepResult) -> None:
        self.progress.stepped(step, result)

    def measured(self, history: History) -> None:
        if self.first:
            self.progress.measured(history)
        if self.first or self.run.config.shard_base:
            self._sheet(history.step)

    def saved(self, history: History) -> None:
        send_or_warn(self.log, history, self.run.folder / "sheets", self.tracking)

    def finished(self, step: int) -> None:
        """Weights and the last sheet, whether this process trained them or found them finished; of the given step."""
        folder = self.run.folder / WEIGHTS
        folder.mkdir(parents=True, exist_ok=True)
        told = {"ema": str(self.run.ema.decay)} if self.run.ema else {}
        with self.run.averaged():
            if self.first:
                self.run.variant.save(folder, {"steps": str(step), **told})
            self._sheet(step)
            if not self.first:
                return
            found = basis_health(self.run, all_of(self.held_out))
        if found is not None:
            write_health(found, self.run.folder / "health")

    def _sheet(self, step: int) -> None:
        path = self.run.folder / "sheets" / f"step-{step:08d}.png"
        rows = [analogy for chosen in self.held_out for analogy in chosen.analogies[: self.run.config.sheet_rows // 2]]
        if rows:
            write_sheet(self.run, self.base, rows, path)


def _device(config: Train) -> torch.device:
    if not config.gpus_per_worker:
        return torch.device("cpu")
    from ray.train.torch import get_device

    device: torch.device = get_device()
    return device


def _prepare_torch(config: Train) -> None:
    """Share the cores of this machine among its workers, and ask for repeatable kernels."""
    from ray.train import get_context

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // get_context().get_local_world_size()))
    if config.gpus_per_worker:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
