"""Algebra of mixes: the coefficients [L, N] of one analogy are plain numbers, so that edits can be added and scaled.

Every function gives float32 and leaves its input alone. What comes out is a mix for `analogy(mix=...)`, `fold` and
`bake`, which take any finite values, also beyond what the router could give.
Legend: L layers, N LoRAs per layer.
"""

import hashlib
from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor


def mix_hash(mix: Tensor) -> str:
    """First 16 hex digits of the sha256 of a mix' shape and float32 values: what files and pictures call it by."""
    values = mix.detach().cpu().float().contiguous() + 0.0  # makes -0 a 0
    return hashlib.sha256(f"{tuple(values.shape)}|".encode() + values.numpy().tobytes()).hexdigest()[:16]


def weighted_sum(mixes_LN: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_k w_k e_k [L, N]. The sum is made in float64, so that the order of the terms does not show.

    Raises:
        ValueError: no mix, mixes of different shapes, or a weight or the sum is not finite.
    """
    assert len(mixes_LN) == len(weights), (len(mixes_LN), len(weights))
    if not mixes_LN:
        raise ValueError("there is no mix to add up; give at least one")
    shapes = {tuple(mix.shape) for mix in mixes_LN}
    if len(shapes) > 1:
        raise ValueError(f"mixes of shapes {sorted(shapes)} cannot be added; take all of them from one basis")
    bad = [weight for weight in weights if not isfinite(weight)]
    if bad:
        raise ValueError(f"a mix is weighted by {bad[0]}; give a finite number")
    total_LN = torch.zeros_like(mixes_LN[0], dtype=torch.float64)
    for mix_LN, weight in zip(mixes_LN, weights, strict=True):
        total_LN += mix_LN.double() * weight
    return _finite(total_LN.float())


def average(mixes_LN: Sequence[Tensor]) -> Tensor:
    """The mean [L, N]: what k exemplar pairs of one edit have in common. Raises ValueError as `weighted_sum` does."""
    return weighted_sum(mixes_LN, [1.0 / max(len(mixes_LN), 1)] * len(mixes_LN))


def interpolate(first_LN: Tensor, second_LN: Tensor, t: float) -> Tensor:
    """(1 - t) first + t second [L, N]: the first at t = 0, the second at t = 1, a step beyond either outside of [0, 1].

    Raises:
        ValueError: shapes that differ, or t is not finite.
    """
    return weighted_sum([first_LN, second_LN], [1.0 - t, t])


def scale(mix_LN: Tensor, factor: float) -> Tensor:
    """factor * e [L, N]: an edit as strong as that. Raises ValueError if the factor or a product is not finite."""
    if not isfinite(factor):
        raise ValueError(f"a mix is scaled by {factor}; give a finite number")
    return _finite((mix_LN.double() * factor).float())


def _finite(mix_LN: Tensor) -> Tensor:
    if not bool(mix_LN.isfinite().all()):
        raise ValueError("the coefficients leave the range of float32; use smaller weights or factors")
    return mix_LN


def negate(mix_LN: Tensor) -> Tensor:
    """-e [L, N]: the opposite update. For a small one that undoes the edit, as far as the model is linear in it."""
    return -mix_LN.float()


def keep_top(mix_LN: Tensor, m: int, keep_sum: bool = False) -> Tensor:
    """The m coefficients of the largest |e| of every layer, the others 0; of equal ones the first stays.

    With `keep_sum` what stays is scaled, layer by layer, so that the layer's sum is what it was (1 with softmax).

    Raises:
        ValueError: m is not in 1..N; or, with `keep_sum`, only a factor <= 0 or none at all gives a layer's sum back:
            what stays cancels to 0, or has the other sign than the whole, so that scaling would turn the edit around.
    """
    N = mix_LN.shape[-1]
    if not 1 <= m <= N:
        raise ValueError(f"keep the top {m} of {N} LoRAs is not possible; give a number from 1 to {N}")
    e_LN = mix_LN.float()
    order_LN = e_LN.abs().argsort(dim=-1, descending=True, stable=True)
    kept_LN = torch.zeros_like(e_LN).scatter(-1, order_LN[..., :m], e_LN.gather(-1, order_LN[..., :m]))
    if not keep_sum:
        return kept_LN
    before_L, after_L = e_LN.double().sum(dim=-1), kept_LN.double().sum(dim=-1)
    factor_L = torch.where(before_L == after_L, 1.0, before_L / after_L)
    scaled_LN = (kept_LN.double() * factor_L[..., None]).float()
    found_L = scaled_LN.isfinite().all(dim=-1) & (factor_L > 0)
    lost = (~found_L).nonzero().flatten().tolist()
    if lost:
        raise ValueError(
            f"the top {m} coefficients of layer {lost[0]} sum to {float(after_L[lost[0]]):.4g}, so that no factor "
            f"above 0 gives the layer's sum {float(before_L[lost[0]]):.4g} back; keep another number, or do not keep "
            "the sum"
        )
    return scaled_LN
