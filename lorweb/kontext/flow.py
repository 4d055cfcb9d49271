"""Rectified flow, paper Eq. 1: z_t = (1 - t) x0 + t x1, target x1 - x0, x1 ~ N(0, I), t in (0, 1].

Legend: B batch, then any shape. t = 1 is pure noise. All randomness comes from (seed, step, index of the sample), so a
resumed run, another batch split or another number of workers draws the same numbers.
"""

import math
from typing import Final, Literal

import torch
from torch import Tensor

from lorweb.records import stable_id

Timesteps = Literal["uniform", "logit_normal"]
Weighting = Literal["plain", "bell", "logit_normal"]
TABLE: Final = 1000  # timesteps 1000, 999, ..., 1


def generator(seed: int, stream: str, step: int, index: int) -> torch.Generator:
    """A CPU generator that depends on its arguments alone; `stream` keeps noise and timesteps independent."""
    return torch.Generator().manual_seed(int(stable_id("flow", seed, stream, step, index), 16) >> 1)


def draw_noise(shape: tuple[int, ...], seed: int, step: int, indices: list[int]) -> Tensor:
    """x1 [len(indices), *shape], float32 on the CPU; row i depends on (seed, step, indices[i]) alone."""
    return torch.stack([torch.randn(shape, generator=generator(seed, "noise", step, i)) for i in indices])


def draw_timesteps(kind: Timesteps, seed: int, step: int, indices: list[int]) -> Tensor:
    """t [len(indices)] in (0, 1], float32 on the CPU.

    uniform: over the table 1000, 999, ..., 1 divided by 1000, no shift. logit_normal: sigmoid of a standard normal.

    Raises:
        ValueError: another kind.
    """
    return torch.stack([_draw_one(kind, generator(seed, "timestep", step, i)) for i in indices])


def _draw_one(kind: Timesteps, source: torch.Generator) -> Tensor:
    if kind == "uniform":
        return torch.randint(1, TABLE + 1, (), generator=source).float() / TABLE
    if kind == "logit_normal":
        return torch.sigmoid(torch.randn((), generator=source))
    raise ValueError(f"timesteps is '{kind}'; use 'uniform' or 'logit_normal'")


def weigh(kind: Weighting, t_B: Tensor) -> Tensor:
    """Loss weight per sample; each kind has mean 1 over the table.

    plain: 1. bell: the curve that the authors' training uses in effect; with i = 1000 - 1000 t,
    w = (exp(-2 ((i - 500) / 1000)^2) - exp(-0.5)) * 4.0146: 0 at t = 1, 1.580 at t = 0.5.
    logit_normal: the density at t of the sigmoid of a standard normal, so that with uniform timesteps the expected loss
    is that of logit_normal timesteps with plain weights.

    Raises:
        ValueError: another kind.
    """
    if kind == "plain":
        return torch.ones_like(t_B)
    if kind == "bell":
        return (torch.exp(-2 * (0.5 - t_B) ** 2) - math.exp(-0.5)) * 4.0146
    if kind == "logit_normal":
        # exp(-x^2 / 2) / (t (1 - t)) with 1 / (t (1 - t)) = 2 + e^x + e^-x, multiplied out: 0 at both ends, not 0 / 0.
        x_B = torch.logit(t_B.double())
        sides_B = torch.exp(-0.5 * (x_B - 1) ** 2) + torch.exp(-0.5 * (x_B + 1) ** 2)
        density_B = (2 * torch.exp(-0.5 * x_B**2) + math.exp(0.5) * sides_B) / math.sqrt(2 * math.pi)
        return density_B.to(t_B.dtype)
    raise ValueError(f"weighting is '{kind}'; use 'plain', 'bell' or 'logit_normal'")


def add_noise(x0: Tensor, x1: Tensor, t_B: Tensor) -> Tensor:
    """z_t = (1 - t) x0 + t x1, row by row."""
    assert x0.shape == x1.shape and t_B.shape == x0.shape[:1], (x0.shape, x1.shape, t_B.shape)
    t = t_B.to(x0).reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - t) * x0 + t * x1


def sample_losses(v: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """[B] mean squared error of the predicted velocity `v` against x1 - x0, in float32 over the whole grid."""
    assert v.shape == x0.shape == x1.shape, (v.shape, x0.shape, x1.shape)
    return ((v.float() - (x1.float() - x0.float())) ** 2).flatten(1).mean(dim=1)


def flow_loss(v: Tensor, x0: Tensor, x1: Tensor, weight_B: Tensor) -> Tensor:
    """Eq. 1 as a scalar: the weighted mean over samples of `sample_losses`."""
    losses_B = sample_losses(v, x0, x1)
    assert weight_B.shape == losses_B.shape, (weight_B.shape, losses_B.shape)
    return (weight_B.to(losses_B) * losses_B).mean()
