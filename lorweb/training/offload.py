"""Activations that wait for backward in host memory, so that the GPU holds those of one block at a time."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

_SMALL: Final = 1 << 16  # bytes: a copy of less costs more time than it saves memory


def offloading(model: nn.Module | None) -> AbstractContextManager[object]:
    """What a forward inside of it keeps for backward goes to pinned host memory, and comes back when backward asks.

    The weights of `model` stay where they are: torch's own save_on_cpu would copy them at every use. None: all stays.
    On a CPU nothing is copied, and nothing changes. Where gradient checkpointing is on, the inputs of the blocks are
    nearly all that is kept.
    """
    if model is None:
        return nullcontext()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters() if type(p) is nn.Parameter}
    hooks: AbstractContextManager[object] = torch.autograd.graph.saved_tensors_hooks(partial(_away, weights), _back)
    return hooks


def moves(weights: set[int], tensor: Tensor) -> bool:
    """Whether a tensor that autograd keeps is worth moving: of some size, and no weight, whole or as a view."""
    if type(tensor) is not Tensor or tensor.nbytes < _SMALL:  # parameters, and those of libraries that quantise
        return False
    return tensor.untyped_storage().data_ptr() not in weights


def _away(weights: set[int], tensor: Tensor) -> tuple[torch.device, Tensor]:
    if tensor.device.type == "cpu" or not moves(weights, tensor):
        return tensor.device, tensor.detach() if type(tensor) is Tensor else tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return tensor.device, host.copy_(tensor)


def _back(kept: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = kept
    return tensor.to(device, non_blocking=True)
