"""Two gloo processes without Ray: killed and resumed bit for bit, and resumed by another number of workers."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from lorweb.training import loop, state
from lorweb.training.loop import Keeper, Stopped
from tests.training.made import Folders, equal, held_out, make_run, train_section, weights, write_data

IDENTITY = {"config": "1", "data": "2"}
PATIENCE = 300  # s


class Hooks:
    """Dies by SIGKILL, as its process would, once a step is done."""

    def __init__(self, die_after):
        self.die_after = die_after

    def stepped(self, step, result):
        if step == self.die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def measured(self, history):
        pass

    def saved(self, history):
        pass


def _rank(rank: int, root: str, name: str, workers: int, die_after: int, stop_at: int) -> None:
    """One rank of a training in `root`/`name`; its weights and losses lie in `root`/`name`-`rank`.pt after the end.

    Rank 0 dies after step `die_after`; the last rank is told to stop before step `stop_at`.
    """
    import torch.distributed as dist

    torch.set_num_threads(1)
    meeting = Path(root) / f"{name}-meeting"
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    folders = Folders(Path(root) / "data" / "encoded", Path(root) / "data" / "analogies")
    run = make_run(folders, train_section())
    asks = iter(range(1000))
    stop = (lambda: next(asks) == 4 + stop_at) if rank == workers - 1 else (lambda: False)
    try:
        told = loop.train(run, held_out(folders), Keeper(Path(root) / name, IDENTITY), Hooks(die_after), stop)
        found = {"weights": weights(run), "losses": told.curves["loss"]}
    except Stopped as stopped:
        found = {"stopped": stopped.step}
    torch.save(found, f"{root}/{name}-{rank}.pt")


def ranks(root: Path, name: str, workers: int = 2, die_after: int = -1, stop_at: int = -99) -> list[int | None]:
    """Exit codes of all ranks; those that wait for a dead one are ended."""
    (root / f"{name}-meeting").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    arguments = (str(root), name, workers, die_after, stop_at)
    processes = [context.Process(target=_rank, args=(rank, *arguments)) for rank in range(workers)]
    for process in processes:
        process.start()
    processes[0].join(PATIENCE)
    for process in processes[1:]:
        process.join(PATIENCE if processes[0].exitcode == 0 else 5)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def found(root: Path, name: str, rank: int = 0) -> dict:
    return torch.load(root / f"{name}-{rank}.pt", weights_only=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Data, and an undisturbed training of two ranks named `whole`."""
    root = tmp_path_factory.mktemp("ranks")
    write_data(root)
    assert ranks(root, "whole") == [0, 0]
    return root


def same_end(root: Path, name: str) -> None:
    for rank in range(2):
        assert equal(found(root, name, rank)["weights"], found(root, "whole")["weights"])
        assert found(root, name, rank)["losses"] == found(root, "whole")["losses"]


@pytest.mark.slow
def test_ten_steps_are_five_and_a_kill_and_the_rest_bit_for_bit(root):
    codes = ranks(root, "killed", die_after=7)
    assert codes[0] == -signal.SIGKILL and codes[1] != 0
    assert state.newest_whole(root / "killed") == (state.checkpoint_path(root / "killed", 5), [])
    assert ranks(root, "killed") == [0, 0]
    same_end(root, "killed")


@pytest.mark.slow
def test_all_ranks_stop_at_the_step_at_which_one_was_told(root):
    assert ranks(root, "told", stop_at=3) == [0, 0]
    assert [found(root, "told", rank)["stopped"] for rank in range(2)] == [3, 3]
    assert ranks(root, "told") == [0, 0]
    same_end(root, "told")


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_workers_goes_on_and_agrees(root, before, after):
    """To the tolerance that sums in another order leave: losses to 1e-4 of themselves."""
    name = f"from-{before}-to-{after}"
    assert ranks(root, name, workers=before, stop_at=5) == [0] * before
    assert found(root, name)["stopped"] == 5
    assert ranks(root, name, workers=after) == [0] * after
    assert found(root, name)["losses"] == pytest.approx(found(root, "whole")["losses"], rel=1e-4)
