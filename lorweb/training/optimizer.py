"""AdamW over two parameter groups, and a learning-rate schedule that is a pure function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from lorweb.config import Optimizer


def build_optimizer(
    adapters: Iterable[nn.Parameter], router: Iterable[nn.Parameter], config: Optimizer
) -> torch.optim.AdamW:
    """AdamW with a group for the LoRAs and one for keys and projections, whose learning rate is multiplied.

    Weight decay applies to both groups, as in the paper's training. Each group keeps its own `base_lr`; call
    `set_learning_rate` before every step.
    """
    rates = ((adapters, config.learning_rate), (router, config.learning_rate * config.router_multiplier))
    groups = [{"params": list(group), "base_lr": rate} for group, rate in rates]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,  # one kernel for hundreds of small tensors: on a CPU the loop over them costs more than the maths
    )


def schedule_factor(step: int, total: int, config: Optimizer) -> float:
    """Share of the base learning rate at a step (from 0): linear warm-up, then constant or a cosine down to 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Apply a schedule factor to every group."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
