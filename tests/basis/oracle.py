"""Eq. 3 to 5 read in numpy, float64, one layer and one query at a time: shares no code and no layout with lorweb."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def coefficients(query: Array, P: Array | None, keys: list[Array], heads: int, activation: str, reduce: str) -> Array:
    """e_i of Eq. 4 for one layer: `query` after the bracket of Eq. 3, `keys` the list of k_i."""
    q = query if P is None else P @ query  # Eq. 3
    width = len(q) // heads
    total = np.zeros(len(keys))
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = np.array([q[part] @ k[part] for k in keys]) / np.sqrt(width)
        total += np.exp(scores) / np.exp(scores).sum() if activation == "softmax" else np.tanh(scores)
    if reduce == "mean":
        return total / heads
    return np.minimum(np.maximum(total, 0.0 if activation == "softmax" else -1.0), 1.0)


def update(e: Array, A: list[Array], B: list[Array]) -> Array:
    """dW of Eq. 5: sum of e_i B_i A_i, with A_i [r, n] and B_i [m, r]."""
    dW = np.zeros((B[0].shape[0], A[0].shape[1]))
    for e_i, A_i, B_i in zip(e, A, B, strict=True):
        dW += e_i * (B_i @ A_i)
    return dW
