"""Work and time of a step. A multiplication with its addition counts as two FLOPs; only products of matrices count.

Symbols: b rows, S tokens of a sequence, D width, K = N * r, I and O sides of a linear, v vectors that pass through it.
"""

from dataclasses import dataclass
from typing import Final

from lorweb.plan.activations import block_bytes, boundary_bytes, vectors
from lorweb.plan.devices import Device
from lorweb.plan.memory import base_bytes
from lorweb.plan.model import Model
from lorweb.plan.setting import Setting, Tokens

FLASH_BACKWARD: Final = 2.5
"""Backward of flash attention over its forward: it multiplies q and k again, and has four products of its own."""
_UPDATE_BYTES: Final = {"adamw": 28, "adamw_fused": 28, "prodigy": 60}  # read and written for a value; 8 bits: 16


@dataclass(frozen=True)
class Work:
    """FLOPs of one forward over some rows, and of the backward after it."""

    base: float  # frozen linears: 2 v I O
    adapters: float  # 2 v K (I + O)
    attention: float  # 4 b S^2 D in every block
    base_backward: float  # as `base`, for gradients of inputs alone: frozen weights have none
    adapters_backward: float  # twice `adapters`
    attention_backward: float

    @property
    def forward(self) -> float:
        """Of one forward."""
        return self.base + self.adapters + self.attention

    @property
    def backward(self) -> float:
        """Of one backward, without what checkpointing runs again."""
        return self.base_backward + self.adapters_backward + self.attention_backward


def work(model: Model, tokens: Tokens, rows: int, attention_backward: float = FLASH_BACKWARD) -> Work:
    """The formulas above; 2.0 for `attention_backward` is that of attention without flash.

    Embeddings of inputs and modulations have no gradient of their inputs: nothing trained lies before them.
    """
    base = carried = adapters = 0
    for linear in model.linears:
        through = vectors(linear, rows, tokens)
        base += 2 * through * linear.values
        adapters += 2 * through * linear.adapter
        if linear.stream != "row" and (linear.block or linear.name == "proj_out"):
            carried += 2 * through * linear.values
    attention = 4 * rows * tokens.joint**2 * model.width * len(model.blocks)
    return Work(base, adapters, attention, carried, 2 * adapters, attention_backward * attention)


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step by part, on one worker; they do not overlap."""

    flops: float  # of one worker and step
    compute: float
    update: float
    unpacking: float  # of quantised weights
    workers: float  # sums of gradients, spread weights, gathered blocks
    offload: float

    @property
    def seconds(self) -> float:
        """Of one step."""
        return self.compute + self.update + self.unpacking + self.workers + self.offload


def step_time(model: Model, setting: Setting, tokens: Tokens, on: Device, utilisation: float) -> StepTime:
    """Seconds of a step on the worker with most rows.

    compute: FLOPs of forward, backward and of what checkpointing runs again, over utilisation * peak. update: the bytes
    of weights, gradients and moments that an update reads and writes, over the memory's bandwidth. unpacking: a
    quantised weight is read, written and read again, in every pass of every micro-batch. workers: an all-reduce sends
    2 (W - 1) / W of 4 P bytes. offload: what is kept, out and in again.
    """
    rows = -(-setting.batch_size // setting.workers)
    done = work(model, tokens, rows)
    flops = done.forward * (2 if setting.gradient_checkpointing else 1) + done.backward
    peak = on.bfloat16 if setting.precision == "bfloat16" else on.float32
    passes = setting.accumulate * (3 if setting.gradient_checkpointing else 2)
    values = sum(block.values for block in model.blocks)
    traffic = _UPDATE_BYTES.get(setting.optimizer, 16) + (12 if setting.ema else 0)
    unpacked = 0 if setting.base_weights == "full" else passes * (base_bytes(model, setting) + 2 * 2 * values)
    others = (setting.workers - 1) / setting.workers
    sent = 2 * others * 4 * model.trained
    if setting.shard_base:
        sent += passes * others * values * setting.base_bytes
    away = 2 * setting.accumulate * _kept(model, setting, tokens) if setting.offload_activations else 0
    return StepTime(
        flops=flops,
        compute=flops / (peak * utilisation),
        update=model.trained * traffic / on.bandwidth,
        unpacking=unpacked / on.bandwidth,
        workers=sent / on.link,
        offload=away / on.host,
    )


def _kept(model: Model, setting: Setting, tokens: Tokens) -> int:
    if setting.gradient_checkpointing:
        return boundary_bytes(model, tokens, setting) * len(model.blocks)
    return sum(block_bytes(model, block, tokens, setting) for block in model.blocks)
