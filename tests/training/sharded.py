"""Trainings under every sharding, in gloo processes without Ray: one start of the processes for many trainings."""

import multiprocessing
import os
from pathlib import Path
from typing import Any, Final

import torch

from lorweb.training import loop
from lorweb.training.loop import Keeper, Stopped
from lorweb.training.step import Run, take_step
from tests.training.made import Folders, held_out, make_run, train_section, weights

STEPS: Final = 10
IDENTITY: Final = {"config": "1"}
MODES: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "zero1": {"sharding": "zero1"},
    "zero2": {"sharding": "zero2", "offload_activations": True},
    "base": {"shard_base": True, "gradient_checkpointing": True},
    "all": {"sharding": "zero2", "shard_base": True, "gradient_checkpointing": True, "ema": 0.9},
}
BASIS: Final = {**train_section().basis.model_dump(), "n_loras": 16, "key_dim": 64}  # projections of a size that is cut
BATCH: Final = {"batch_size": 8, "accumulate": 2, "basis": BASIS}
PATIENCE: Final = 500  # s


def folders(root: Path) -> Folders:
    """What `write_data` has left there."""
    return Folders(root / "data" / "encoded", root / "data" / "analogies")


def made(root: Path, mode: str, **changes: Any) -> Run:
    return make_run(folders(root), train_section(**BATCH, **MODES[mode], **changes))


def moment_bytes(run: Run) -> int:
    """Of everything that this worker's optimiser keeps."""
    states = run.optimizer.state.values()
    return sum(value.nbytes for state in states for value in state.values() if torch.is_tensor(value))


def gradient_bytes(run: Run) -> int:
    held = {id(p): p for p in (*run.variant.parameters.values(), *(piece.values for piece in run.shards.mine))}
    return sum(p.grad.nbytes for p in held.values() if p.grad is not None)


def frozen_bytes(run: Run) -> int:
    """Of the frozen weights that this worker keeps between two forwards."""
    frozen = [p for p in run.variant.transformer.parameters() if not p.requires_grad]
    return sum((p.to_local() if hasattr(p, "to_local") else p).nbytes for p in frozen)


def stepped(root: Path, mode: str, **changes: Any) -> dict[str, Any]:
    """Ten steps, and what this worker keeps after them."""
    run = made(root, mode, **changes)
    results = [take_step(run, step) for step in range(STEPS)]
    kept = {"moments": moment_bytes(run), "gradients": gradient_bytes(run), "frozen": frozen_bytes(run)}
    norms = [result.gradient_norm for result in results]
    return {"losses": [result.loss for result in results], "norms": norms, "weights": weights(run), **kept}


def trained(root: Path, name: str, mode: str, stop_at: int = -99, **changes: Any) -> dict[str, Any]:
    """The training in `root`/`name`, on from where it stands, until all ranks stop before step `stop_at`."""
    run = made(root, mode, **changes)
    asks = iter(range(1000))
    stop = lambda: next(asks) == 4 + stop_at  # noqa: E731 (asked four times in the first validation)
    try:
        told = loop.train(run, held_out(folders(root)), Keeper(root / name, IDENTITY), Silent(), stop)
    except Stopped as stopped:
        return {"stopped": stopped.step}
    return {"losses": told.curves["loss"], "validation": told.validation, "weights": weights(run)}


def eight_bit(root: Path) -> dict[str, Any]:
    """Two processes under the optimiser that eight_bit_cases.py names: ten steps each way, and a stop after five."""
    section = {**train_section().optimizer.model_dump(), "name": os.environ["LORWEB_TEST_OPTIMIZER"]}
    found = {mode: stepped(root, mode, optimizer=section) for mode in ("none", "zero1")}
    return {**found, "left": trained(root, "eight", "zero1", stop_at=5, optimizer=section)}


class Silent:
    """Hooks that want to know nothing."""

    def stepped(self, step, result):
        pass

    def measured(self, history):
        pass

    def saved(self, history):
        pass


def _rank(rank: int, work: Any, workers: int, root: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{root}/meeting-{workers}", rank=rank, world_size=workers)
    torch.save(work(Path(root)), f"{root}/found-{workers}-{rank}.pt")
    dist.destroy_process_group()


def launch(work: Any, workers: int, root: Path) -> list[dict[str, Any]]:
    """What a function of `root` returns in each of so many processes that work together."""
    (root / f"meeting-{workers}").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(rank, work, workers, str(root))) for rank in range(workers)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(PATIENCE)
        if process.exitcode != 0:  # the others would wait for it
            for other in ranks:
                other.kill()
    assert [process.exitcode for process in ranks] == [0] * workers
    return [torch.load(root / f"found-{workers}-{rank}.pt", weights_only=True) for rank in range(workers)]
