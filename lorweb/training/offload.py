"""Activations that wait for backward in host memory, so that the GPU holds those of one block at a time."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import Tensor, nn

_SMALL: Final = 1 << 16  # bytes: a copy of less costs more time than it saves memory


def offloading(on: bool) -> AbstractContextManager[object]:
    """What a forward inside of it keeps for backward goes to pinned host memory, and comes back when backward asks.

    On a CPU nothing is copied, and nothing changes. Weights stay where they are, which torch's own save_on_cpu would
    copy at every use. Where gradient checkpointing is on, the inputs of the blocks are all that is kept.
    """
    return torch.autograd.graph.saved_tensors_hooks(_away, _back) if on else nullcontext()


def moves(tensor: Tensor) -> bool:
    """Whether a tensor that autograd keeps is worth moving: an activation of some size, in the GPU's memory or not."""
    weight = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
    return type(tensor) is Tensor and not weight and tensor.nbytes >= _SMALL


def _away(tensor: Tensor) -> tuple[torch.device, Tensor]:
    if not moves(tensor) or tensor.device.type == "cpu":
        return tensor.device, tensor.detach() if type(tensor) is Tensor else tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, layout=tensor.layout, pin_memory=True)
    return tensor.device, host.copy_(tensor)


def _back(kept: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = kept
    return tensor.to(device, non_blocking=True)
