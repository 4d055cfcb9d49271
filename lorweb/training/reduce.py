"""Sums over the workers of a training run. With one worker, or none started, every function leaves its input as it is.

Plain all-reduces in place of a DDP wrapper: the trainable parameters are a few adapters inside a frozen model, the
forward runs through `velocity()`, and a fixed order of sums keeps runs repeatable.
"""

from collections.abc import Iterable
from itertools import chain

import torch
import torch.distributed as dist
from torch import nn

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


def any_(told: bool, device: torch.device) -> bool:
    """Whether any worker says yes, on every worker."""
    if world()[1] == 1:
        return told
    count = torch.tensor(int(told), device=device)
    return int(sum_(count)) > 0
