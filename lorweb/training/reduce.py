"""Sums over the workers of a training run. With one worker, or none started, every function leaves its input as it is.

Plain all-reduces in place of a DDP wrapper: the trainable parameters are a few adapters inside a frozen model, the
forward runs through `velocity()`, and a fixed order of sums keeps runs repeatable.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn

_BUCKET = 1 << 24  # elements, 64 MiB of float32: bounds the extra memory at paper scale


def world() -> tuple[int, int]:
    """(rank, number of workers)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all workers, in place."""
    if world()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients of all workers in buckets. A parameter without a gradient counts as zero."""
    if world()[1] == 1:
        return
    bucket: list[nn.Parameter] = []
    for parameter in chain(parameters, [None]):
        full = sum(p.numel() for p in bucket) >= _BUCKET
        if bucket and (parameter is None or full):
            _sum_bucket(bucket)
            bucket = []
        if parameter is not None:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter)


def _sum_bucket(bucket: list[nn.Parameter]) -> None:
    gradients = [parameter.grad for parameter in bucket]
    flat = sum_(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def copy_from_first(parameters: Iterable[torch.Tensor]) -> None:
    """Give every worker the values of rank 0."""
    if world()[1] > 1:
        for parameter in parameters:
            dist.broadcast(parameter.data, src=0)


def from_first(value: int, device: torch.device) -> int:
    """Rank 0's value, on every worker."""
    if world()[1] == 1:
        return value
    told = torch.tensor(value, device=device)
    dist.broadcast(told, src=0)
    return int(told)


def to_first(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The CPU tensors of all workers in one dict on rank 0, whose own come first; {} on the others.

    All workers call it together. The tensors travel as safetensors, over `device`, some 64 MiB at a time. No two
    workers give the same name.
    """
    rank, workers = world()
    if rank:
        for portion in chain(_portions(tensors), [None]):
            data = torch.frombuffer(bytearray(save(portion) if portion else b"\0"), dtype=torch.uint8).to(device)
            dist.send(torch.tensor([len(data)], device=device), dst=0)
            dist.send(data, dst=0)
        return {}
    found = dict(tensors)
    for source in range(1, workers):
        while received := _receive(source, device):
            assert not received.keys() & found.keys(), "two workers keep the same state"
            found |= received
    return found


def _portions(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    portion: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        portion[name] = tensor
        if sum(part.nbytes for part in portion.values()) >= 4 * _BUCKET:
            yield portion
            portion = {}
    if portion:
        yield portion


def _receive(source: int, device: torch.device) -> dict[str, Tensor]:
    """The next portion; {} after the last."""
    size = torch.zeros(1, dtype=torch.int64, device=device)
    dist.recv(size, src=source)
    data = torch.empty(int(size), dtype=torch.uint8, device=device)
    dist.recv(data, src=source)
    return load(data.cpu().numpy().tobytes()) if len(data) > 1 else {}


def any_(told: bool, device: torch.device) -> bool:
    """Whether any worker says yes, on every worker."""
    if world()[1] == 1:
        return told
    count = torch.tensor(int(told), device=device)
    return int(sum_(count)) > 0
