"""Is the mix alive? Numbers of coefficients alone, and of atoms by their norms: cheap enough to look at while training.

Legend: B queries, L layers, N LoRAs per layer, r rank of a LoRA, K = N * r, O out_features, I in_features.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorweb.basis.layer import BasisLinear


@dataclass(frozen=True)
class MixHealth:
    """Of the coefficients alone, over all layers: what training logs at each validation."""

    effective_loras: float  # exp of the mean entropy of |e| / sum |e|: 1 = one LoRA does all, N = an even mix
    mix_spread: float  # standard deviation of e over the queries, mean over layers and LoRAs: 0 = exemplar ignored
    unused_loras: float  # share of (layer, LoRA) whose |e| stays below a tenth of an even share


def mix_health(e_BLN: Tensor) -> MixHealth:
    """Of coefficients [B, L, N], as `mix` gives them."""
    e_BLN = e_BLN.detach().double()
    unused_LN = shares(e_BLN).amax(0) < 0.1 / e_BLN.shape[-1]
    return MixHealth(
        effective_loras=float(nats(shares(e_BLN)).mean().exp()),
        mix_spread=float(e_BLN.std(0, unbiased=False).mean()),
        unused_loras=float(unused_LN.double().mean()),
    )


def mix_entropy(e_BN: Tensor) -> float:
    """Entropy of |e| / sum |e| over log N, mean over queries: 1 = all LoRAs alike, 0 = one of them (or N = 1)."""
    N = e_BN.shape[-1]
    return float(nats(shares(e_BN)).mean()) / math.log(N) if N > 1 else 0.0


def mix_variation(e_BN: Tensor) -> float:
    """mean |e - mean e| / (2 mean |e|) over queries, L1 norms: 0 = constant router, at most 1; signs count."""
    return float((e_BN - e_BN.mean(0)).abs().sum() / (2 * e_BN.abs().sum()).clamp_min(1e-30))


def atom_use(e_BN: Tensor, norm_N: Tensor) -> Tensor:
    """Share of each atom in |e_n| |B_n A_n|, mean over queries, [N]; sums to 1, all zero while B is zero."""
    return shares(e_BN.abs().mean(0) * norm_N)


def atom_norms(layer: BasisLinear) -> Tensor:
    """|B_n A_n| in the Frobenius norm, [N] float64 on the CPU, from products of r x r, on the layer's own device."""
    A_NrI = layer.A.detach().double().unflatten(0, (-1, layer.rank))
    B_NOr = layer.B.detach().double().unflatten(1, (-1, layer.rank)).movedim(1, 0)
    inner_N = ((B_NOr.mT @ B_NOr) * (A_NrI @ A_NrI.mT)).sum((1, 2))
    return inner_N.clamp_min(0).sqrt().cpu()


def dead_atoms(use_N: Tensor, dead_share: float) -> list[int]:
    """Atoms whose use is at most `dead_share` of an even share."""
    return [int(n) for n in torch.nonzero(use_N <= dead_share / len(use_N)).flatten()]


def shares(x_N: Tensor) -> Tensor:
    """|x| over its sum along the last axis; zeros stay zeros."""
    return x_N.abs() / x_N.abs().sum(-1, keepdim=True).clamp_min(1e-30)


def nats(share_N: Tensor) -> Tensor:
    """Entropy along the last axis."""
    return -torch.special.xlogy(share_N, share_N).sum(-1)
