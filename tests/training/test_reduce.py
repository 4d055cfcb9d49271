"""Two gloo processes without Ray: the sum over workers is the whole batch."""

import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from lorweb.training import reduce
from tests.training.made import Folders, make_run, train_section, weights, write_data


def test_without_workers_everything_is_as_it_was():
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    reduce.sum_gradients([parameter])
    reduce.copy_from_first([parameter])
    assert reduce.world() == (0, 1) and reduce.from_first(7, torch.device("cpu")) == 7
    assert torch.equal(parameter.grad, torch.tensor([1.0, 2.0])) and torch.equal(
        reduce.sum_(torch.ones(2)), torch.ones(2)
    )


LOUD = {"from_step": 1, "min_entropy": 1.0, "min_variation": 1.0, "max_dead_atoms": 0.0}


def _worker(rank: int, meeting: str, out: str, root: str) -> None:
    import torch.distributed as dist

    from lorweb.training.loop import Keeper, train
    from lorweb.training.step import take_step
    from lorweb.training.validation import validate
    from tests.training.made import held_out
    from tests.training.test_loop import Recorder

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    reduce._BUCKET = 1000  # several buckets, some parameters larger than one
    folders = Folders(Path(root) / "data" / "encoded", Path(root) / "data" / "analogies")
    run = make_run(folders, train_section(batch_size=5, accumulate=2, ema=0.9))  # micro-batches of 1 or 2 rows
    if rank == 1:
        with torch.no_grad():
            for parameter in run.variant.parameters.values():
                parameter.add_(1.0)
    reduce.copy_from_first(run.variant.parameters.values())
    assert run.ema is not None
    losses = [take_step(run, step).loss for step in range(4)]
    seen = validate(run, held_out(folders)[0])
    told = reduce.from_first(rank + 40, torch.device("cpu"))
    stop = {"patience": 2, "split": "unseen", "min_delta": 100.0}
    section = train_section(steps=12, validate_every=2, stop=stop, keep_best="seen", alarms=LOUD)
    history = train(make_run(folders, section), held_out(folders), Keeper(Path(root) / "stopped", {}), Recorder())
    measured = [row["loss"] for row in history.validation]
    told_all = {"losses": losses, "weights": weights(run), "ema": run.ema.values, "seen": seen, "told": told}
    torch.save({**told_all, "measured": measured, "stopped": history.step}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_compute_what_one_computes(tmp_path):
    import torch.multiprocessing as mp

    from lorweb.training.step import take_step
    from lorweb.training.validation import validate
    from tests.training.made import held_out

    folders = write_data(tmp_path)
    with tempfile.TemporaryDirectory() as meeting:
        mp.spawn(_worker, args=(f"{meeting}/meet", str(tmp_path), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    run = make_run(folders, train_section(batch_size=5, ema=0.9))
    alone = [take_step(run, step).loss for step in range(4)]
    assert first["losses"] == second["losses"] == pytest.approx(alone, rel=1e-4)
    assert first["told"] == second["told"] == 40
    assert first["stopped"] == second["stopped"] == 4, "early stopping is one decision"
    assert first["measured"] == second["measured"] and len(first["measured"]) == 3 * 4
    assert first["seen"] == second["seen"] == pytest.approx(validate(run, held_out(folders)[0]), rel=1e-4)
    for name, value in weights(run).items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        assert torch.allclose(first["weights"][name], value, atol=1e-4), name
        assert torch.equal(first["ema"][name], second["ema"][name])
        assert torch.allclose(first["ema"][name], run.ema.values[name], atol=1e-4), name
