"""Eq. 3 and 4: from the query to the coefficients of every layer, in one batched call.

Legend: B analogies, L layers, N LoRAs per layer, Q query width, D key width, H heads, W = D / H width of a head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorweb.basis.config import BasisConfig


class Router(nn.Module):
    """Keys and projections of all layers, stacked, so that one GEMM serves them. Layers share nothing (paper 3.2).

    `keys` is [L, N, D]; `projection` is [L, D, Q], or None where the config says "none".
    """

    def __init__(self, config: BasisConfig, layer_names: tuple[str, ...], device: torch.device) -> None:
        super().__init__()
        self.config = config
        self.layer_names = layer_names
        L, N, D = len(layer_names), config.n_loras, config.key_dim
        self.keys = nn.Parameter(torch.empty(L, N, D, device=device))
        linear = config.projection == "linear"
        self.projection = nn.Parameter(torch.empty(L, D, config.query_dim, device=device)) if linear else None

    def initialise(self, layer: int, generator: torch.Generator) -> None:
        """Keys ~ N(0, 1); projection as nn.Linear's, uniform within 1/sqrt(Q). Drawn on the CPU: equal everywhere."""
        with torch.no_grad():
            self.keys[layer].copy_(torch.randn(self.keys[layer].shape, generator=generator))
            if self.projection is not None:
                bound = 1.0 / math.sqrt(self.config.query_dim)
                drawn_DQ = torch.empty(self.projection[layer].shape).uniform_(-bound, bound, generator=generator)
                self.projection[layer].copy_(drawn_DQ)

    def forward(self, query_BQ: Tensor) -> Tensor:
        """Coefficients e [B, L, N], float32, for queries [B, Q].

        Eq. 4 with h heads scales by 1/sqrt(D/h). With softmax and "mean" the coefficients of a layer sum to 1.
        """
        c = self.config
        L, N, D = self.keys.shape
        B, H, W = len(query_BQ), c.heads, D // c.heads
        with torch.autocast(query_BQ.device.type, enabled=False):
            q_BLD = self._project(query_BQ.float(), L, D)
            q_BLHW = q_BLD.reshape(B, L, H, W)
            keys_LNHW = self.keys.float().view(L, N, H, W)
            logits_BLHN = torch.einsum("blhw,lnhw->blhn", q_BLHW, keys_LNHW) * W**-0.5
            e_BLHN = logits_BLHN.softmax(-1) if c.activation == "softmax" else logits_BLHN.tanh()
            if c.reduce == "mean":
                return e_BLHN.mean(2)
            return e_BLHN.sum(2).clamp(0.0 if c.activation == "softmax" else -1.0, 1.0)

    def _project(self, query_BQ: Tensor, L: int, D: int) -> Tensor:
        """Eq. 3: q = P(query), [B, L, D]; without a projection the query serves every layer as it is."""
        if self.projection is None:
            return query_BQ[:, None, :].expand(-1, L, -1)
        return F.linear(query_BQ, self.projection.float().view(L * D, -1)).view(-1, L, D)
