"""Optimisers over two parameter groups, and a learning-rate schedule that is a pure function of the step."""

import io
import math
from collections.abc import Iterable
from contextlib import nullcontext, redirect_stdout
from typing import Any

import torch
from torch import nn

from lorweb.training.entries import Optimizer
from lorweb.training.packages import require_package


def build_optimizer(
    adapters: Iterable[nn.Parameter], router: Iterable[nn.Parameter], config: Optimizer
) -> torch.optim.Optimizer:
    """A group for the LoRAs and one for keys and projections, whose learning rate is multiplied.

    Weight decay (decoupled) applies to both groups, as in the paper's training. Each group keeps its own `base_lr`;
    `update` takes every step.

    Raises:
        ValueError: the optimiser's package is not installed.
    """
    rates = ((adapters, config.learning_rate), (router, config.learning_rate * config.router_multiplier))
    groups = [{"params": list(group), "base_lr": rate} for group, rate in rates]
    groups = [group for group in groups if group["params"]]
    require_package(config.name)
    if config.name == "prodigy":
        return _prodigy(groups, config)
    options = {"betas": config.betas, "eps": config.eps, "weight_decay": config.weight_decay}
    if config.name == "adamw_8bit":
        from torchao.optim import AdamW8bit

        return AdamW8bit(groups, lr=config.learning_rate, **options)
    if config.name == "adamw_8bit_bitsandbytes":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, lr=config.learning_rate, **options)
    # Fused: one kernel for hundreds of small tensors; on a CPU the loop over them costs more than the maths.
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=config.name == "adamw_fused", **options)


def _prodigy(groups: list[dict[str, Any]], config: Optimizer) -> torch.optim.Optimizer:
    from prodigyopt import Prodigy

    assert config.prodigy is not None, "lorweb.config refuses this"
    with redirect_stdout(io.StringIO()):  # it greets
        return Prodigy(
            groups,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            d0=config.prodigy.d0,
            d_coef=config.prodigy.d_coef,
            use_bias_correction=True,  # both are its authors' advice for diffusion models
            safeguard_warmup=True,
        )


def schedule_factor(step: int, total: int, config: Optimizer) -> float:
    """Share of the base learning rate at a step (from 0): linear warm-up, then constant, or down to 0 at `total`."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    progress = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    if config.schedule == "linear":
        return max(0.0, 1.0 - progress)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Apply a schedule factor to every group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # of an optimiser that compiles its update
            group["lr"].fill_(group["base_lr"] * factor)
        else:
            group["lr"] = group["base_lr"] * factor


def update(optimizer: torch.optim.Optimizer, config: Optimizer, factor: float) -> float:
    """One update at a share of the base learning rates, from the gradients that are there.

    Returns the learning rate of the LoRAs; with Prodigy its estimate of the step size is in it.
    """
    set_learning_rate(optimizer, factor)
    group = optimizer.param_groups[0]
    # torchao compiles its update for every shape: worth it on CUDA, a minute for each on a CPU
    eager = config.name == "adamw_8bit" and group["params"][0].device.type == "cpu"
    with torch.compiler.set_stance("force_eager") if eager else nullcontext():
        optimizer.step()
    return factor * config.learning_rate * float(group.get("d", 1.0))
