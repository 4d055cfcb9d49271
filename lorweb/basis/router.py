"""Eq. 3 and 4: from the query to the coefficients, of every layer in one batched call where the query is external.

Legend: B analogies, L layers, N LoRAs per layer, Q query width, D key width, H heads, W = D / H width of a head,
I width of a layer's input.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorweb.basis.config import BasisConfig


def project(query_BQ: Tensor, projection_DQ: Tensor | None) -> Tensor:
    """Eq. 3: q = P(query), [B, D], float32; None is the identity."""
    return query_BQ.float() if projection_DQ is None else F.linear(query_BQ.float(), projection_DQ.float())


def coefficients(q_BLD: Tensor, keys_LND: Tensor, config: BasisConfig) -> Tensor:
    """Eq. 4: e [B, L, N], float32; h heads scale by 1/sqrt(D/h).

    With softmax and "mean" the coefficients of a layer sum to 1.
    """
    L, N, D = keys_LND.shape
    H, W = config.heads, D // config.heads
    q_BLHW = q_BLD.unflatten(-1, (H, W))
    keys_LNHW = keys_LND.float().view(L, N, H, W)
    logits_BLHN = torch.einsum("blhw,lnhw->blhn", q_BLHW, keys_LNHW) * W**-0.5
    e_BLHN = logits_BLHN.softmax(-1) if config.activation == "softmax" else logits_BLHN.tanh()
    if config.reduce == "mean":
        return e_BLHN.mean(2)
    return e_BLHN.sum(2).clamp(0.0 if config.activation == "softmax" else -1.0, 1.0)


class Router(nn.Module):
    """Keys and projections of all layers. Layers share nothing (paper 3.2), unless the projection is "shared".

    `keys` is [L, N, D]. `projection` is [L, D, Q], stacked so that one GEMM serves all layers; [1, D, Q] if shared; a
    list of [D, I] for internal queries, whose width is their layer's; None where the config says "none".
    """

    projection: nn.Parameter | nn.ParameterList | None

    def __init__(
        self, config: BasisConfig, layer_names: tuple[str, ...], in_features: Sequence[int], device: torch.device
    ) -> None:
        """`in_features`: width I of each layer's input. Nothing is drawn yet, see `initialise`.

        Raises:
            ValueError: an internal query without projection meets a layer whose width is not `key_dim`.
        """
        super().__init__()
        self.config = config
        self.layer_names = layer_names
        L, N, D = len(layer_names), config.n_loras, config.key_dim
        self.keys = nn.Parameter(torch.empty(L, N, D, device=device))
        if config.projection == "none":
            self.projection = None
            _check_widths(config, layer_names, in_features)
        elif config.internal:
            self.projection = nn.ParameterList(torch.empty(D, width, device=device) for width in in_features)
        else:
            count = 1 if config.projection == "shared" else L
            self.projection = nn.Parameter(torch.empty(count, D, config.query_dim or 0, device=device))

    def projection_of(self, layer: int) -> Tensor | None:
        """The projection [D, Q] that serves one layer."""
        if self.projection is None:
            return None
        found: Tensor = self.projection[layer if len(self.projection) > 1 else 0]
        return found

    def initialise(self, layer: int, generator: torch.Generator) -> None:
        """Keys ~ N(0, 1), and the layer's own projection. Drawn on the CPU: equal everywhere."""
        with torch.no_grad():
            self.keys[layer].copy_(torch.randn(self.keys[layer].shape, generator=generator))
        if self.config.projection == "linear":
            self.initialise_projection(layer, generator)

    def initialise_projection(self, layer: int, generator: torch.Generator) -> None:
        """As nn.Linear's: uniform within 1/sqrt(Q). A shared projection is drawn once, as that of layer 0."""
        projection_DQ = self.projection_of(layer)
        assert projection_DQ is not None
        bound = 1.0 / math.sqrt(projection_DQ.shape[1])
        with torch.no_grad():
            projection_DQ.copy_(torch.empty(projection_DQ.shape).uniform_(-bound, bound, generator=generator))

    def forward(self, query_BQ: Tensor) -> Tensor:
        """Coefficients e [B, L, N], float32, for external queries [B, Q]."""
        L, _, D = self.keys.shape
        with torch.autocast(query_BQ.device.type, enabled=False):
            stacked_PQ = self.projection.flatten(0, 1) if isinstance(self.projection, Tensor) else None
            q_BLD = project(query_BQ, stacked_PQ).unflatten(-1, (-1, D)).expand(-1, L, -1)
            return coefficients(q_BLD, self.keys, self.config)


def _check_widths(config: BasisConfig, layer_names: tuple[str, ...], in_features: Sequence[int]) -> None:
    for name, width in zip(layer_names, in_features, strict=True):
        if config.query_width(width) != config.key_dim:
            raise ValueError(
                f"{name} asks with its own {width} values, and without a projection key_dim must be that width, "
                f"but it is {config.key_dim}; use projection 'linear', or target layers of width {config.key_dim}"
            )
