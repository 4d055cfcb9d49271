"""Bytes of training on one worker, by component, in each phase of a step; and in host memory.

Symbols: P values that are trained (A and B of the LoRAs, keys, projections), W workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lorweb.plan.activations import (
    block_bytes,
    boundary_bytes,
    ends_bytes,
    forward_workspace_bytes,
    workspace_bytes,
)
from lorweb.plan.model import Model
from lorweb.plan.setting import Setting, Tokens
from lorweb.plan.state import gradient_bytes, moment_bytes, own_tensors, snapshot_bytes, sum_workspace, update_workspace

COMPONENTS: Final = {
    "base": "frozen transformer",
    "vae": "VAE (for sheets)",
    "adapters": "LoRAs A and B, float32",
    "router": "keys and projections, float32",
    "moments": "optimiser moments",
    "average": "running average (ema)",
    "gradients": "gradients, float32",
    "casts": "bfloat16 copies of A and B (autocast)",
    "inputs": "inputs, output norm, loss",
    "activations": "activations kept for backward",
    "workspace": "worst moment of a block, or of the update",
}
_NF4: Final = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a value: codes, 8-bit scales of 64, float32 scales of 256 of those


@dataclass(frozen=True)
class Memory:
    """Bytes on one worker's device in each phase, by component, and in its host memory.

    phases: forward (its end), backward (its worst moment), update (the optimiser's step), validation.
    """

    phases: Mapping[str, Mapping[str, int]]
    host: Mapping[str, int]

    def total(self, phase: str) -> int:
        """Of one phase."""
        return sum(self.phases[phase].values())

    @property
    def peak_phase(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=self.total)

    @property
    def peak(self) -> int:
        """Bytes that the device must have, beyond what CUDA and its allocator take for themselves."""
        return self.total(self.peak_phase)


def memory(model: Model, setting: Setting, tokens: Tokens) -> Memory:
    """Everything of one worker but the encoded data."""
    gradients = gradient_bytes(model, setting)
    resting = {
        "base": base_bytes(model, setting),
        "vae": model.others.vae * setting.base_bytes,
        "adapters": 4 * model.adapters,
        "router": 4 * model.router,
        "moments": moment_bytes(setting.optimizer, own_tensors(model, setting, setting.sharding != "none")),
        "average": 4 * model.trained if setting.ema else 0,
    }
    casts = 2 * model.adapters if setting.autocast else 0
    ends = ends_bytes(model, tokens, setting)
    kept = _kept(model, setting, tokens)
    update = max(update_workspace(model, setting), sum_workspace(model, setting))
    seen = forward_workspace_bytes(model, tokens, setting, setting.rows)
    forward = {
        "gradients": gradients if setting.accumulate > 1 else 0,
        "casts": casts,
        "inputs": ends,
        "activations": 0 if setting.offload_activations else sum(kept),
    }
    phases = {
        "forward": resting | forward,
        "backward": resting | _backward(model, setting, tokens, kept),
        "update": resting | {"gradients": gradients, "workspace": update},
        "validation": resting | {"gradients": gradients, "casts": casts, "inputs": ends, "workspace": seen},
    }
    return Memory(phases, _host(model, setting, kept))


def base_bytes(model: Model, setting: Setting) -> int:
    """The frozen transformer: its values in the base's dtype, those of the blocks' linears quantised if asked for.

    int8: 1 byte a value and a scale per output; nf4: 0.516 bytes. shard_base: a W-th, and the two largest blocks whole:
    the one in use and the one that is gathered meanwhile.
    """
    w = setting.base_bytes
    linears = [linear for block in model.blocks for linear in block.linears]
    values = sum(linear.values for linear in linears)
    rest = (model.base_values - values) * w
    if setting.base_weights == "int8":
        return rest + values + w * sum(linear.outputs for linear in linears)
    if setting.base_weights == "nf4":
        return rest + round(values * _NF4)
    if setting.shard_base and setting.workers > 1:
        largest = sorted(block.values for block in model.blocks)[-2:]
        return model.base_values * w // setting.workers + sum(largest) * w
    return rest + values * w


def _kept(model: Model, setting: Setting, tokens: Tokens) -> list[int]:
    """Per block, what waits for backward at the end of the forward."""
    if setting.gradient_checkpointing:
        return [boundary_bytes(model, tokens, setting)] * len(model.blocks)
    return [block_bytes(model, block, tokens, setting) for block in model.blocks]


def _backward(model: Model, setting: Setting, tokens: Tokens, kept: list[int]) -> dict[str, int]:
    """The worst moment of the walk from the last block to the first.

    At block i: what blocks 0..i keep, with checkpointing all of block i on top (its forward has run again), its
    workspace, and gradients of the blocks after it; of everything, where earlier micro-batches have left theirs. With
    offload only block i counts.
    """
    accumulated = setting.accumulate > 1
    whole = gradient_bytes(model, setting)
    share = whole / (4 * model.trained)
    found: dict[str, int] = {}
    waiting, behind = sum(kept), 0
    ahead = model.adapters
    for block, own in zip(reversed(model.blocks), reversed(kept), strict=True):
        again = block_bytes(model, block, tokens, setting) if setting.gradient_checkpointing else 0
        here = (0 if setting.offload_activations else waiting) + again
        if setting.offload_activations and not again:
            here = own
        cast = (block.adapter if setting.gradient_checkpointing else ahead) if setting.autocast else 0
        moment = {
            "gradients": whole if accumulated else round(4 * behind * share),
            "casts": 2 * cast,
            "inputs": _behind_loss(model, setting, tokens),
            "activations": here,
            "workspace": workspace_bytes(model, block, tokens, setting),
        }
        found = max(found, moment, key=lambda parts: sum(parts.values()))
        waiting, behind, ahead = waiting - own, behind + block.adapter, ahead - block.adapter
    return found


def _behind_loss(model: Model, setting: Setting, tokens: Tokens) -> int:
    """Inputs of the step, once backward has gone through loss and output norm."""
    final = setting.rows * model.width * (tokens.image * setting.norm_bytes + tokens.joint * setting.base_bytes)
    return ends_bytes(model, tokens, setting) - final


def _host(model: Model, setting: Setting, kept: list[int]) -> dict[str, int]:
    """Host memory of one worker: the base while it is loaded; a checkpoint's copy (on CUDA, or two with
    async_checkpoints: the one being written and the next); activations that were sent away.
    """
    copies = 2 if setting.async_checkpoints else int(setting.cuda)
    return {
        "base while loading": (model.base_values + model.others.vae) * setting.base_bytes if setting.cuda else 0,
        "checkpoints in flight": copies * snapshot_bytes(model, setting),
        "activations": sum(kept) if setting.offload_activations else 0,
    }
