"""Is the basis used? Numbers that tell a working router from a collapsed one, and atoms that do nothing.

An atom is one LoRA of one layer, B_n A_n. Everything about atoms and updates comes from the factors: no O x I matrix is
made. Ranks are effective ranks (Roy and Vetterli, 2007): exp of the entropy of the singular values over their sum.

Legend: B queries, L layers, N atoms per layer, r rank of an atom, K = N * r, O out_features, I in_features,
S singular values, F rows of a reduced factor (at most K).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor, nn

from lorweb.basis.context import mix
from lorweb.basis.inject import basis_layers, router_of
from lorweb.basis.layer import BasisLinear
from lorweb.basis.mix_health import (
    MixHealth,
    atom_use,
    dead_atoms,
    mix_entropy,
    mix_health,
    mix_variation,
    nats,
    shares,
)

DEAD_SHARE: Final = 0.01  # of an even share of use, at most which an atom is dead
RANK_QUERIES = 64  # at most so many, evenly spread, are asked for the rank of their update: an SVD for each and layer


@dataclass(frozen=True)
class LayerHealth:
    """One layer. `use` of an atom is its share of |e_n| |B_n A_n|, mean over queries."""

    entropy: float  # of |e| / sum |e|, over log N: 1 = all atoms alike, 0 = one atom (or N = 1); mean over queries
    variation: float  # mean |e - mean e| / (2 mean |e|), L1 norms: 0 = constant router, at most 1; signs count
    update_variation: float  # share of mean |dW|^2 that is not |mean dW|^2: 0 = one static LoRA
    update_rank: float  # effective rank of dW = sum_n e_n B_n A_n, mean over `RANK_QUERIES`; at most min(K, I, O)
    basis_rank: float  # effective number of distinct atoms: the N atoms as vectors, weighed by their norms; at most N
    update_norm: float  # |dW| in the Frobenius norm, mean over queries
    largest_atom: float  # largest |B_n A_n|
    key_norm: float  # mean |k_n|
    use: tuple[float, ...]  # of each atom; sums to 1, all zero while B is zero
    dead: tuple[int, ...]  # atoms whose use is at most `dead_share` / N
    duplicates: tuple[tuple[int, int], ...]  # pairs of atoms with |cosine of B_i A_i and B_j A_j| >= `duplicate_cosine`


@dataclass(frozen=True)
class Health(MixHealth):
    """The whole basis: means over layers, counts, and each layer."""

    entropy: float
    variation: float
    update_variation: float
    update_rank: float
    basis_rank: float
    dead_atoms: int
    duplicate_pairs: int
    update_norm: float  # root of the sum of squares over layers
    atoms: int
    queries: int
    layers: dict[str, LayerHealth]  # in the order of the basis

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, so equal health is equal bytes."""
        return json.dumps(asdict(self), sort_keys=True)

    def summary(self) -> Mapping[str, float]:
        """The totals alone, as numbers to log."""
        return {key: float(value) for key, value in asdict(self).items() if key != "layers"}

    def worst(self, count: int) -> list[str]:
        """Names of the layers to look at first: most dead and doubled atoms, then the most static update."""

        def ills(name: str) -> tuple[int, float]:
            row = self.layers[name]
            return -len(row.dead) - len({i for pair in row.duplicates for i in pair}), row.update_variation

        return sorted(self.layers, key=ills)[:count]


def health(
    transformer: nn.Module, query_BQ: Tensor, dead_share: float = DEAD_SHARE, duplicate_cosine: float = 0.98
) -> Health:
    """Measure the basis on queries [B, Q]: of many tasks, or a constant router looks like a constant input.

    A layer whose B is still zero has every atom dead, no duplicates, and ranks of 0.

    Raises:
        ValueError: no basis, its queries are internal, the query does not fit, or queries or weights are not finite.
    """
    if not bool(query_BQ.isfinite().all()):
        raise ValueError("the queries hold values that are not finite; look at the encoder that made them")
    with torch.no_grad():
        e_BLN = mix(transformer, query_BQ).double().cpu()
        keys_LND = router_of(transformer).keys.double().cpu()
        rows = {}
        for index, (name, layer) in enumerate(basis_layers(transformer).items()):
            _check_finite(name, layer, e_BLN[:, index])
            rows[name] = _layer_health(layer, e_BLN[:, index], keys_LND[index], (dead_share, duplicate_cosine))
    found = list(rows.values())
    means = ("entropy", "variation", "update_variation", "update_rank", "basis_rank")
    return Health(
        **asdict(mix_health(e_BLN)),
        **{key: math.fsum(getattr(row, key) for row in found) / len(found) for key in means},
        dead_atoms=sum(len(row.dead) for row in found),
        duplicate_pairs=sum(len(row.duplicates) for row in found),
        update_norm=math.fsum(row.update_norm**2 for row in found) ** 0.5,
        atoms=e_BLN.shape[1] * e_BLN.shape[2],
        queries=len(e_BLN),
        layers=rows,
    )


def atom_gram(layer: BasisLinear) -> Tensor:
    """Inner products <B_i A_i, B_j A_j> of all atoms, [N, N] float64 on the CPU.

    tr((B_i A_i)^T B_j A_j) is the sum over components p, q of (B^T B)[ip, jq] (A A^T)[ip, jq].
    """
    A_KI, B_OK = _factors(layer)
    product_KK = (B_OK.T @ B_OK) * (A_KI @ A_KI.T)
    N = len(A_KI) // layer.rank
    return product_KK.view(N, layer.rank, N, layer.rank).sum((1, 3))


def update_ranks(layer: BasisLinear, e_BN: Tensor) -> Tensor:
    """Effective rank of dW for each row of coefficients [B, N]: [B], 0 where dW is zero.

    With B = Q_B R_B and A^T = Q_A R_A the singular values of B diag(e) A are those of R_B diag(e) R_A^T, at most K x K.
    """
    A_KI, B_OK = _factors(layer)
    R_B_FK, R_A_FK = (torch.linalg.qr(factor, mode="r").R for factor in (B_OK, A_KI.T))
    e_BK = e_BN.double().cpu().repeat_interleave(layer.rank, dim=1)
    return effective_rank(torch.linalg.svdvals(R_B_FK * e_BK[:, None, :] @ R_A_FK.T))


def effective_rank(singular_BS: Tensor) -> Tensor:
    """exp of the entropy of singular values over their sum, [B]: S if all are equal, 1 if only one is not 0, else 0."""
    return torch.where(singular_BS.sum(-1) > 0, nats(shares(singular_BS)).exp(), 0.0)


def _layer_health(layer: BasisLinear, e_BN: Tensor, keys_ND: Tensor, limits: tuple[float, float]) -> LayerHealth:
    dead_share, duplicate_cosine = limits
    gram_NN, mean_N = atom_gram(layer), e_BN.mean(0)
    norm_N = gram_NN.diagonal().clamp_min(0).sqrt()
    use_N = atom_use(e_BN, norm_N)
    cosine_NN = (gram_NN / (norm_N[:, None] * norm_N).clamp_min(1e-30)).abs().triu(1)
    energy_B = torch.einsum("bi,ij,bj->b", e_BN, gram_NN, e_BN).clamp_min(0)
    moving_B = torch.einsum("bi,ij,bj->b", e_BN - mean_N, gram_NN, e_BN - mean_N).clamp_min(0)
    return LayerHealth(
        entropy=mix_entropy(e_BN),
        variation=mix_variation(e_BN),
        update_variation=float(moving_B.sum() / energy_B.sum().clamp_min(1e-30)),
        update_rank=float(update_ranks(layer, e_BN[:: math.ceil(len(e_BN) / RANK_QUERIES)]).mean()),
        basis_rank=float(effective_rank(torch.linalg.eigvalsh(gram_NN).clamp_min(0).sqrt())),
        update_norm=float(energy_B.sqrt().mean()),
        largest_atom=float(norm_N.max()),
        key_norm=float(keys_ND.norm(dim=1).mean()),
        use=tuple(use_N.tolist()),
        dead=tuple(dead_atoms(use_N, dead_share)),
        duplicates=tuple((int(i), int(j)) for i, j in torch.nonzero(cosine_NN >= duplicate_cosine)),
    )


def _factors(layer: BasisLinear) -> tuple[Tensor, Tensor]:
    """A [K, I] and B [O, K] in float64 on the CPU."""
    return layer.A.detach().cpu().double(), layer.B.detach().cpu().double()


def _check_finite(name: str, layer: BasisLinear, e_BN: Tensor) -> None:
    if not all(bool(x.isfinite().all()) for x in (layer.A, layer.B, e_BN)):
        raise ValueError(
            f"the basis of {name} holds values that are not finite; its training had diverged, train again"
        )
