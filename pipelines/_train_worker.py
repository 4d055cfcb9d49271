"""What runs in every Ray Train worker: all variants, one after the other, on this worker's part of each batch."""

import gc
import json
from collections.abc import Callable
from pathlib import Path

import joblib
import torch

from lorweb.basis.health_files import write_health
from lorweb.config import Train
from lorweb.kontext.load import Base
from lorweb.training import reduce
from lorweb.training.course import never, restore_published
from lorweb.training.dataset import Encoded
from lorweb.training.frozen import load_frozen
from lorweb.training.health import basis_health
from lorweb.training.kernels import use_repeatable_kernels
from lorweb.training.loop import History, Keeper, Stopped, train
from lorweb.training.sheets import write_sheet
from lorweb.training.step import NonFiniteError, Run, StepResult
from lorweb.training.validation import ValidationSet, all_of
from pipelines._train_depot import come_to_data, depot_of, hand_in, keep_informed
from pipelines._train_log import Progress, be_brief_with_mlflow, curve_log, send_or_warn
from pipelines._train_notes import noting_warnings
from pipelines._train_plan import WEIGHTS, TrainPlan
from pipelines._train_run import device_of, held_out_sets, make_run
from pipelines._train_stop import asked
from pipelines._train_told import REFUSAL, STARTED, STOPPED, Messenger, told_of


def train_all(plan: TrainPlan) -> None:
    """Every variant in turn. What a retry cannot change is written down and ends the worker quietly.

    That is a refusal, or that the training was told to stop.
    """
    _prepare_torch(plan.config)
    be_brief_with_mlflow()
    told, (rank, workers) = told_of(plan), reduce.world()
    told.say(STARTED, "1")
    if told.heard(REFUSAL) is not None:  # some worker refused, and Ray has started all again
        return
    with noting_warnings(told), Messenger(told, listens=rank == 0) as messenger:
        try:
            come_to_data(plan)
            for name in plan.variants:
                train_one(plan, name, asked(messenger), messenger.progress)
        except Stopped as stopped:
            if rank == 0:
                told.say(STOPPED, json.dumps({"variant": name, "step": stopped.step}))
        except (NonFiniteError, ValueError, OSError, torch.OutOfMemoryError) as error:
            told.say(REFUSAL, json.dumps({"rank": rank, "message": _message(error)}))
            if workers > 1 and not isinstance(error, NonFiniteError):
                raise  # the other workers wait for this one: Ray has to end them


def _message(error: Exception) -> str:
    if not isinstance(error, torch.OutOfMemoryError):
        return str(error)
    return (
        f"a GPU has no memory left ({str(error).splitlines()[0]}); `lorweb plan` says what to change to fit: "
        "gradient_checkpointing, accumulate, optimizer.name adamw_8bit, base_weights, offload_activations"
    )


def _unheard(_progress: str) -> None:
    """Nobody wants to know."""


def train_one(
    plan: TrainPlan, name: str, stop: Callable[[], bool] = never, say: Callable[[str], None] = _unheard
) -> History:
    """Train one variant to its end, or go on where its newest checkpoint stands; its weights lie in the work folder.

    With a store they lie there as well. `say` hears of the progress.

    Raises:
        Stopped: see `lorweb.training.loop.train`.
    """
    gc.collect()  # the last variant and its base: what a circle of references still holds, the GPU would miss
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    base = load_frozen(plan.base_folder or plan.base, plan.config, device_of(plan.config))
    encoded = Encoded.load(Path(plan.encoded))
    run = make_run(plan, name, base, encoded)
    held_out = held_out_sets(plan, encoded)
    keeper = Keeper(
        run.folder,
        {**plan.identity, "variant": name},
        {"mlflow": {"run_id": plan.run_id, "tracking": plan.server}},
        depot_of(plan, name),
    )
    hooks = _Hooks(plan, run, base, held_out, Progress(say, name, plan.config.steps))
    history = train(run, held_out, keeper, hooks, stop)
    first = reduce.world()[0] == 0
    if plan.config.shard_base:
        reduce.from_first(0, run.device)  # rank 0 has written its last checkpoint, which all read
    if first or plan.config.shard_base:
        hooks.finished(restore_published(run, keeper, history))
    if first:
        hand_in(plan, name, history)
    return history


class _Hooks:
    """Rank 0's voice: progress, curves, sheets, and the weights at the end.

    Other ranks only help with what runs the model, where each has a share of the base.
    """

    def __init__(
        self, plan: TrainPlan, run: Run, base: Base, held_out: list[ValidationSet], progress: Progress
    ) -> None:
        self.plan, self.run, self.base, self.held_out, self.progress = plan, run, base, held_out, progress
        self.log = curve_log(plan, run.variant.name)
        self.first = reduce.world()[0] == 0

    def stepped(self, step: int, result: StepResult) -> None:
        self.progress.stepped(step, result)

    def measured(self, history: History) -> None:
        if self.first:
            self.progress.measured(history)
        if self.first or self.run.config.shard_base:
            self._sheet(history.step)

    def saved(self, history: History) -> None:
        keep_informed(self.plan, self.run.variant.name, history)
        if self.log is not None:
            send_or_warn(self.log, history, self.run.folder / "sheets", self.plan.tracking)

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


def _prepare_torch(config: Train) -> None:
    """Share the cores that this machine or container lends among its workers, and ask for repeatable kernels."""
    from ray.train import get_context

    torch.set_num_threads(max(1, joblib.cpu_count() // get_context().get_local_world_size()))
    if config.gpus_per_worker:
        use_repeatable_kernels()
