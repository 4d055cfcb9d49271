"""Groups of training processes that take a step when they are told to: 1 worker beside 2, in interleaved rounds."""

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

PATIENCE = 300  # s for a start or a step


@dataclass(frozen=True)
class Group:
    """`workers` processes that share every batch, each on `threads` threads or on a GPU of its own."""

    workers: int
    threads: int
    device: str  # cpu or cuda
    scene: Sequence[Any]  # ("wide", Shape, precision) or ("tiny", changes of the train section)

    @property
    def name(self) -> str:
        """As rows of the results call it."""
        many = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return many if self.device == "cuda" else f"{many} x {self.threads} thread{'s' if self.threads > 1 else ''}"


class Crew:
    """The processes of a group, ready; a call is one step of all of them, and gives the loss."""

    def __init__(self, pipes: list[Connection]) -> None:
        self.pipes = pipes

    def __call__(self) -> float:
        for pipe in self.pipes:
            pipe.send(True)
        return min(receive(pipe) for pipe in self.pipes)  # all say the same loss


@contextmanager
def crew(group: Group) -> Iterator[Crew]:
    """Start the processes of a group; at the end they are gone. Raises RuntimeError as `receive`."""
    context, ends, processes = multiprocessing.get_context("spawn"), [], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for rank in range(group.workers):
                mine, theirs = context.Pipe()
                process = context.Process(target=_work, args=(group, rank, f"{folder}/meeting", theirs), daemon=True)
                process.start()
                theirs.close()  # so that a dead process is an end of file here
                processes.append(process)
                ends.append(mine)
            for end in ends:
                receive(end)  # it is ready
            yield Crew(ends)
        finally:
            for end, process in zip(ends, processes, strict=True):
                with suppress(OSError):  # it is dead
                    end.send(False)
                process.join(10)
                process.kill()
                process.join()


def receive(pipe: Connection) -> float:
    """What a process answers. Raises RuntimeError if it is dead or does not answer in time."""
    try:
        if pipe.poll(PATIENCE):
            return float(pipe.recv())
    except EOFError:
        pass
    raise RuntimeError("a worker is dead or takes too long; what it said stands above")


def _work(group: Group, rank: int, meeting: str, pipe: Connection) -> None:
    import torch.distributed as dist
    from _training import Shape, make_run, quiet, wide
    from _uncached import tiny

    from lorweb.training.step import take_step

    quiet()
    torch.set_num_threads(group.threads)
    device = torch.device("cuda", rank) if group.device == "cuda" else torch.device("cpu")
    if group.workers > 1:
        backend = "nccl" if group.device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=Path(meeting).as_uri(), rank=rank, world_size=group.workers)
    kind, what, *rest = group.scene
    if kind == "wide":
        assert isinstance(what, Shape)
        scene = wide(what, device, *rest)
    else:
        scene = tiny(device, what["batch_size"], **what)[0]
    run, step = make_run(scene, "ours"), 0
    pipe.send(0.0)
    while pipe.recv():
        loss = take_step(run, step).loss
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        pipe.send(loss)
        step += 1
