"""Is the basis used? Numbers that tell a working router from a collapsed one, and atoms that do nothing.

Legend: B queries, L layers, N atoms (LoRAs) per layer, K = N * r, r rank of an atom.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from lorweb.basis.context import mix
from lorweb.basis.inject import basis_layers, router_of
from lorweb.basis.layer import BasisLinear


@dataclass(frozen=True)
class LayerHealth:
    """One layer. An atom is one LoRA; its weight is |e_n| over all queries."""

    entropy: float  # of |e| / sum |e|, over log N: 1 = all atoms alike, 0 = one atom; mean over queries
    variation: float  # mean total variation between a query's normalised |e| and the mean one: 0 = constant router
    dead: tuple[int, ...]  # atoms whose share of |e| * |B_n A_n| is below `dead_share` / N
    duplicates: tuple[tuple[int, int], ...]  # pairs of atoms with |cosine of B_i A_i and B_j A_j| >= `duplicate_cosine`
    update_norm: float  # |sum_n e_n B_n A_n| in the Frobenius norm, mean over queries
    largest_atom: float  # largest |B_n A_n|
    key_norm: float  # mean |k_n|


@dataclass(frozen=True)
class Health:
    """The whole basis: means over layers, counts, and each layer."""

    entropy: float
    variation: float
    dead_atoms: int
    duplicate_pairs: int
    update_norm: float  # root of the sum of squares over layers
    atoms: int
    queries: int
    layers: dict[str, LayerHealth]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, so equal health is equal bytes."""
        return json.dumps(asdict(self), sort_keys=True)

    def summary(self) -> Mapping[str, float]:
        """The totals alone, as numbers to log."""
        return {key: float(value) for key, value in asdict(self).items() if key != "layers"}


def health(
    transformer: nn.Module, query_BQ: Tensor, dead_share: float = 0.01, duplicate_cosine: float = 0.98
) -> Health:
    """Measure the basis on queries [B, Q]: of many tasks, or a constant router looks like a constant input.

    A layer whose B is still zero has every atom dead and no duplicates.

    Raises:
        ValueError: no basis, the query does not fit, or it is not finite.
    """
    if not bool(query_BQ.isfinite().all()):
        raise ValueError("the queries hold values that are not finite; look at the encoder that made them")
    e_BLN = mix(transformer, query_BQ).detach()
    layers = {
        name: _layer_health(layer, e_BLN[:, index], (dead_share, duplicate_cosine), router_of(transformer).keys[index])
        for index, (name, layer) in enumerate(basis_layers(transformer).items())
    }
    rows = list(layers.values())
    return Health(
        entropy=sum(row.entropy for row in rows) / len(rows),
        variation=sum(row.variation for row in rows) / len(rows),
        dead_atoms=sum(len(row.dead) for row in rows),
        duplicate_pairs=sum(len(row.duplicates) for row in rows),
        update_norm=sum(row.update_norm**2 for row in rows) ** 0.5,
        atoms=e_BLN.shape[1] * e_BLN.shape[2],
        queries=len(e_BLN),
        layers=layers,
    )


def atom_gram(layer: BasisLinear) -> Tensor:
    """Inner products <B_i A_i, B_j A_j> of all atoms, [N, N] float64, from the factors: no O x I matrix is made.

    tr((B_i A_i)^T B_j A_j) is the sum over components p, q of (B^T B)[ip, jq] (A A^T)[ip, jq].
    """
    A_KI, B_OK = layer.A.detach().double(), layer.B.detach().double()
    product_KK = (B_OK.T @ B_OK) * (A_KI @ A_KI.T)
    N = len(A_KI) // layer.rank
    return product_KK.view(N, layer.rank, N, layer.rank).sum((1, 3))


def _layer_health(layer: BasisLinear, e_BN: Tensor, limits: tuple[float, float], keys_ND: Tensor) -> LayerHealth:
    dead_share, duplicate_cosine = limits
    gram_NN, e_BN = atom_gram(layer).cpu(), e_BN.double().cpu()
    N = len(gram_NN)
    norm_N = gram_NN.diagonal().clamp_min(0).sqrt()
    share_BN = e_BN.abs() / e_BN.abs().sum(1, keepdim=True).clamp_min(1e-30)
    nats_B = -torch.special.xlogy(share_BN, share_BN).sum(1)
    use_N = e_BN.abs().mean(0) * norm_N
    cosine_NN = (gram_NN / (norm_N[:, None] * norm_N).clamp_min(1e-30)).abs().triu(1)
    return LayerHealth(
        entropy=float(nats_B.mean()) / float(torch.tensor(N).log()) if N > 1 else 0.0,
        variation=float((share_BN - share_BN.mean(0)).abs().sum(1).mean()) / 2,
        dead=tuple(torch.nonzero(use_N <= use_N.sum() * dead_share / N).flatten().tolist()),
        duplicates=tuple((int(i), int(j)) for i, j in torch.nonzero(cosine_NN >= duplicate_cosine)),
        update_norm=float(torch.einsum("bi,ij,bj->b", e_BN, gram_NN, e_BN).clamp_min(0).sqrt().mean()),
        largest_atom=float(norm_N.max()),
        key_norm=float(keys_ND.detach().float().norm(dim=1).mean()),
    )
