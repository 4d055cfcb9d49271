"""Setting the analogy: coefficients of all layers for everything that runs inside a `with` block.

Legend: B analogies, L layers, N LoRAs per layer, K = N * r, Q query width.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lorweb.basis.inject import basis_layers, router_of
from lorweb.basis.layer import CLOSED, Session


def mix(transformer: nn.Module, query_BQ: Tensor) -> Tensor:
    """Coefficients e [B, L, N] (Eq. 3 and 4), float32, of every layer in one call; differentiable.

    Layers are in the order of `BasisReport.layers`. One query [Q] counts as a batch of one.

    Raises:
        ValueError: no basis, or the query is not [B, query_dim].
    """
    router = router_of(transformer)
    shape = tuple(query_BQ.shape)
    query_BQ = query_BQ[None] if query_BQ.ndim == 1 else query_BQ
    if query_BQ.ndim != 2 or query_BQ.shape[1] != router.config.query_dim or len(query_BQ) == 0:
        raise ValueError(
            f"the query has shape {shape}, this basis needs [batch, {router.config.query_dim}] "
            f"(query_mode {router.config.query_mode})"
        )
    e_BLN: Tensor = router(query_BQ.to(router.keys.device))
    return e_BLN


def as_mix(transformer: nn.Module, query: Tensor | None, mix_BLN: Tensor | None) -> Tensor:
    """Coefficients [B, L, N] from exactly one of a query [B, Q] or [Q] and coefficients [B, L, N] or [L, N].

    Raises:
        ValueError: none or both are given, or a shape does not fit the basis.
    """
    if (query is None) == (mix_BLN is None):
        raise ValueError("give exactly one of query and mix")
    if mix_BLN is None:
        assert query is not None
        return mix(transformer, query)
    router = router_of(transformer)
    L, N, _ = router.keys.shape
    e_BLN = mix_BLN[None] if mix_BLN.ndim == 2 else mix_BLN
    if e_BLN.ndim != 3 or tuple(e_BLN.shape[1:]) != (L, N) or len(e_BLN) == 0:
        raise ValueError(f"the mix has shape {tuple(mix_BLN.shape)}, this basis needs [batch, {L}, {N}] or [{L}, {N}]")
    return e_BLN.to(router.keys.device, torch.float32)


@contextmanager
def analogy(
    transformer: nn.Module, query: Tensor | None = None, mix: Tensor | None = None, strength: float = 1.0
) -> Iterator[Tensor]:
    """Run the transformer under an analogy; yields the coefficients e [B, L, N], strength included.

    Give a query [B, Q] (gradients flow to keys and projections) or a ready mix [B, L, N]. Row i of a batch follows
    analogy i; `lorweb.basis.layer.BasisLinear.forward` says how rows repeat. Strength scales the update: 0 is the base
    bit for bit, negative values undo the edit. Blocks nest, and an exception restores what was set before.

    With gradient checkpointing call backward INSIDE the block: checkpointing runs the forward again during backward.
    Each micro-batch needs its own block: backward frees the graph of its coefficients.

    Raises:
        ValueError: no basis, or query, mix or strength do not fit.
        RuntimeError: backward ran after the block had closed, under gradient checkpointing; or a fold is in place.
    """
    e_BLN = as_mix(transformer, query, mix)
    layers = list(basis_layers(transformer).values())
    if any(layer.folded for layer in layers):
        raise RuntimeError("an analogy is folded into the weights and would be added twice; call unfold(...) first")
    if not abs(strength) < float("inf"):
        raise ValueError(f"strength is {strength}; it must be a finite number")
    e_BLN = e_BLN * strength
    session = Session()
    e_BLN = _watch(e_BLN, session, transformer)
    per_layer = e_BLN.repeat_interleave(layers[0].rank, dim=2).unbind(1) if strength else [None] * len(layers)
    before = [layer.e_BK for layer in layers]
    for layer, e_BK in zip(layers, per_layer, strict=True):
        layer.e_BK, layer.session = e_BK, weakref.ref(session)
    try:
        yield e_BLN
    finally:
        session.active = False
        for layer, e_BK in zip(layers, before, strict=True):
            layer.e_BK = e_BK


def _watch(e_BLN: Tensor, session: Session, transformer: nn.Module) -> Tensor:
    """Under gradient checkpointing, refuse gradients that arrive after the session has closed.

    By then the forward was run again without these coefficients, or with those of another analogy, which PyTorch cannot
    see. The hook keeps the session alive exactly as long as the graph: layers hold it only weakly.
    """
    checkpointing = any(getattr(module, "gradient_checkpointing", False) for module in transformer.modules())
    if not (checkpointing and torch.is_grad_enabled()):
        return e_BLN
    if not e_BLN.requires_grad:
        e_BLN = e_BLN.detach().requires_grad_()

    def refuse_when_closed(_: Tensor) -> None:
        if not session.active:
            raise RuntimeError(CLOSED)

    e_BLN.register_hook(refuse_when_closed)
    return e_BLN
