"""How a model is trained, as the numbers that memory and time depend on: read from the parameters in one place."""

from dataclasses import dataclass
from typing import Final, Literal

import torch

from lorweb.config import Train
from lorweb.training.entries import BaseWeights, OptimizerName, Sharding, forward_rows

RMS_IN_FLOAT32: Final = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 12)


@dataclass(frozen=True)
class Setting:
    """What of the `train` section decides memory and time; names are the section's.

    sharding: what each worker keeps a share of: moments (zero1), moments and gradients (zero2). shard_base: each worker
    keeps a share of the frozen base and gathers a block while it is in use. base_weights: what the blocks' linears are
    kept in. offload_activations: what backward waits for lies in host memory.
    """

    cuda: bool
    precision: Literal["float32", "bfloat16"]
    optimizer: OptimizerName
    batch_size: int  # over all workers
    workers: int
    accumulate: int
    gradient_checkpointing: bool
    ema: bool
    async_checkpoints: bool
    sharding: Sharding
    shard_base: bool
    base_weights: BaseWeights
    offload_activations: bool

    @property
    def rows(self) -> int:
        """Most analogies that one worker takes through the model at once."""
        return forward_rows(self.batch_size, self.workers, self.accumulate)

    @property
    def autocast(self) -> bool:
        """As in `lorweb.training.step`: beside a bfloat16 base on CUDA the float32 adapters multiply in bfloat16."""
        return self.cuda and self.precision == "bfloat16"

    @property
    def base_bytes(self) -> int:
        """Bytes of a frozen value that is not quantised."""
        return 2 if self.precision == "bfloat16" else 4

    @property
    def compute_bytes(self) -> int:
        """c, bytes of a value that the linears work with."""
        return 2 if self.autocast else 4

    @property
    def norm_bytes(self) -> int:
        """n, bytes of what goes in and out of a LayerNorm: autocast computes it in float32."""
        return 4

    @property
    def rms_bytes(self) -> int:
        """m, bytes of what goes into an RMSNorm and of queries, keys and all that follows: float32 under autocast since
        it casts them (torch 2.13 does, 2.11 does not; taken as new in 2.12).
        """
        return 4 if not self.autocast or RMS_IN_FLOAT32 else 2


def read_setting(train: Train) -> Setting:
    """The one place that reads the `train` section for memory and time."""
    return Setting(
        cuda=train.gpus_per_worker > 0,
        precision=train.precision,
        optimizer=train.optimizer.name,
        batch_size=train.batch_size,
        workers=train.workers,
        accumulate=train.accumulate,
        gradient_checkpointing=train.gradient_checkpointing,
        ema=train.ema is not None,
        async_checkpoints=train.async_checkpoints,
        sharding=train.sharding,
        shard_base=train.shard_base,
        base_weights=train.base_weights,
        offload_activations=train.offload_activations,
    )


@dataclass(frozen=True)
class Tokens:
    """Of one analogy: `image` is the noisy and the control grid together."""

    image: int
    text: int

    @property
    def joint(self) -> int:
        """S, length of the sequence that attention sees."""
        return self.image + self.text
