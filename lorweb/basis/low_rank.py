"""Products of two thin factors, without ever making the wide product: norms, the best smaller rank, rounding.

Legend: K inner width of the factors, R rank of the result, I in_features, O out_features.
"""

import torch
from torch import Tensor


def truncate(A_KI: Tensor, B_OK: Tensor, rank: int) -> tuple[Tensor, Tensor, float, float]:
    """The best rank-R factors of B A, and the squared Frobenius norms of what is lost and of the whole.

    QR of both factors first: the SVD then is of a K x K matrix, never of the O x I one. Q stays a product of
    Householder reflections, applied to R columns only. In float64: where atoms cancel, |B A| is far below |B| |A|, and
    an error relative to the latter would show; float32 would take two thirds of the time.
    """
    Qb, Rb_JK = _householder(B_OK.double())
    Qa, Ra_MK = _householder(A_KI.double().T)
    U, s, Vh = torch.linalg.svd(Rb_JK @ Ra_MK.T, full_matrices=False)
    kept = min(rank, len(s))
    root = s[:kept].sqrt()
    A_RI = A_KI.new_zeros(rank, A_KI.shape[1])
    B_OR = B_OK.new_zeros(B_OK.shape[0], rank)
    A_RI[:kept] = _reflect(Qa, Vh[:kept].T * root).T.to(A_RI)
    B_OR[:, :kept] = _reflect(Qb, U[:, :kept] * root).to(B_OR)
    return A_RI, B_OR, float(s[kept:].square().sum()), float(s.square().sum())


def square_norm(A_KI: Tensor, B_OK: Tensor) -> float:
    """|B A|^2 in the Frobenius norm, from K x K products in float64: tr(A^T B^T B A) = sum of (B^T B) * (A A^T)."""
    A, B = A_KI.double(), B_OK.double()
    return max(0.0, float(((B.T @ B) * (A @ A.T)).sum()))


def rounded(factor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """A factor in another dtype. Raises ValueError where a value is not finite in it."""
    cast = factor.to(dtype)
    if not bool(cast.isfinite().all()):
        raise ValueError(
            f"{name} reaches {float(factor.abs().max()):g}, which is not finite as {dtype}; use bfloat16 or float32"
        )
    return cast


def _householder(W: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """QR of W [m, n]: Q as (reflections, their factors), and R [min(m, n), n]."""
    reflections, taus = torch.geqrf(W)
    count = len(taus)
    return (reflections[:, :count], taus), reflections[:count].triu()


def _reflect(Q: tuple[Tensor, Tensor], columns: Tensor) -> Tensor:
    """Q times `columns` [min(m, n), k] -> [m, k]."""
    reflections, taus = Q
    padded = columns.new_zeros(len(reflections), columns.shape[1])
    padded[: len(columns)] = columns
    return torch.ormqr(reflections, taus, padded)
