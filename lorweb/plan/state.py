"""Bytes of what an optimiser keeps and takes, and what each worker has of it.

Symbols: P values that are trained (A and B of the LoRAs, keys, projections), W workers.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import nn

from lorweb.plan.model import Model, Trained
from lorweb.plan.setting import Setting
from lorweb.training.pieces import GRAIN, cut
from lorweb.training.reduce import _BUCKET
from lorweb.training.sharding import owners

_BLOCK_8BIT: Final = 256  # values that share a scale, in torchao and bitsandbytes
_SMALLEST_8BIT: Final = 4096  # values; smaller tensors keep float32 moments


def moment_bytes(optimizer: str, tensors: Sequence[Trained]) -> int:
    """Of an optimiser over tensors.

    adamw, adamw_fused: two float32 a value, 8 bytes. prodigy: four, 16 bytes, of which it saves the start, and so 4, of
    B, which starts at zero. 8 bits: 2 codes and 2 float32 scales for
    256 values, 2.03 bytes; tensors below 4,096 values (torchao: or no multiple of 256) keep float32.
    """
    if optimizer == "prodigy":
        return sum((12 if tensor.zero else 16) * tensor.values for tensor in tensors)
    if not optimizer.startswith("adamw_8bit"):
        return 8 * sum(tensor.values for tensor in tensors)
    total = 0
    for size in (tensor.values for tensor in tensors):
        small = size < _SMALLEST_8BIT or (optimizer == "adamw_8bit" and size % _BLOCK_8BIT > 0)
        total += 8 * size if small else 2 * size + 8 * -(-size // _BLOCK_8BIT)
    return total


def gradient_bytes(model: Model, setting: Setting) -> int:
    """4 P; with zero2 those of the worker's own share, and the largest tensor's on its way to its owner."""
    if setting.sharding != "zero2" or setting.workers == 1:
        return 4 * model.trained
    own = sum(tensor.values for tensor in own_tensors(model, setting, True))
    return 4 * (own + _largest(model.tensors))


def snapshot_bytes(model: Model, setting: Setting) -> int:
    """Tensors of one checkpoint: weights, moments of all workers, average."""
    return 4 * model.trained * (1 + setting.ema) + moment_bytes(setting.optimizer, model.tensors)


def _largest(tensors: Sequence[Trained]) -> int:
    return max(tensor.values for tensor in tensors)


def own_tensors(model: Model, setting: Setting, shared: bool) -> list[Trained]:
    """What the fullest worker keeps the state of, by training's own rule: whole tensors, and pieces of the largest."""
    if not shared or setting.workers == 1:
        return list(model.tensors)
    pieces = cut({str(index): _parameter(tensor.values) for index, tensor in enumerate(model.tensors)}, setting.workers)
    hands: list[list[Trained]] = [[] for _ in range(setting.workers)]
    for piece, owner in zip(pieces, owners(pieces, setting.workers), strict=True):
        hands[owner].append(replace(model.tensors[int(piece.of)], values=piece.values.numel()))
    return max(hands, key=lambda hand: sum(tensor.values for tensor in hand))


def _parameter(values: int) -> nn.Parameter:
    """A tensor of so many values, without memory; what can be cut has rows as short as cuts may be."""
    shape = (values // GRAIN, GRAIN) if values % GRAIN == 0 else (1, values)
    return nn.Parameter(torch.empty(shape, device="meta"))


def update_workspace(model: Model, setting: Setting) -> int:
    """Temporaries of the optimiser: adamw on CUDA steps through all tensors at once and takes 4 P, elsewhere two of its
    largest tensor; fused and bitsandbytes none; torchao, compiled on CUDA, none there and five of the largest on a CPU;
    prodigy three of the largest.
    """
    largest = 4 * _largest(own_tensors(model, setting, setting.sharding != "none"))
    if setting.optimizer == "adamw":
        return 4 * model.trained if setting.cuda else 2 * largest
    if setting.optimizer == "adamw_8bit":
        return 0 if setting.cuda else 5 * largest
    return 3 * largest if setting.optimizer == "prodigy" else 0


def sum_workspace(model: Model, setting: Setting) -> int:
    """Sums over workers run in flat buckets; one holds at least _BUCKET values, and ends with a whole tensor."""
    return 4 * min(model.trained, _BUCKET + _largest(model.tensors)) if setting.workers > 1 else 0
