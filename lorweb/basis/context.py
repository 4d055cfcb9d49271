"""Setting the analogy: coefficients of all layers for everything that runs inside a `with` block.

Legend: B analogies, L layers, N LoRAs per layer, K = N * r, Q query width.
"""

import inspect
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorweb.basis.inject import basis_layers, owner_of, router_of
from lorweb.basis.internal import stream_of, token_indices
from lorweb.basis.layer import CLOSED, BasisLinear, OwnQuery, Session
from lorweb.basis.router import Router


def mix(transformer: nn.Module, query_BQ: Tensor) -> Tensor:
    """Coefficients e [B, L, N] (Eq. 3 and 4), float32, of every layer in one call; differentiable.

    Layers are in the order of `BasisReport.layers`. One query [Q] counts as a batch of one.

    Raises:
        ValueError: no basis, its queries are internal, or the query is not [B, query_dim] or not finite.
    """
    router = router_of(transformer)
    _refuse_internal(router)
    shape = tuple(query_BQ.shape)
    query_BQ = query_BQ[None] if query_BQ.ndim == 1 else query_BQ
    if query_BQ.ndim != 2 or query_BQ.shape[1] != router.config.query_dim or len(query_BQ) == 0:
        raise ValueError(
            f"the query has shape {shape}, this basis needs [batch, {router.config.query_dim}] "
            f"(query_mode {router.config.query_mode})"
        )
    _check_finite("query", query_BQ)
    e_BLN: Tensor = router(query_BQ.to(router.keys.device))
    return e_BLN


def as_mix(transformer: nn.Module, query: Tensor | None, mix_BLN: Tensor | None) -> Tensor:
    """Coefficients [B, L, N] from exactly one of a query [B, Q] or [Q] and coefficients [B, L, N] or [L, N].

    Raises:
        ValueError: none or both are given, a shape does not fit the basis, values are not finite, or its queries are
            internal.
    """
    router = router_of(transformer)
    _refuse_internal(router)
    if (query is None) == (mix_BLN is None):
        raise ValueError("give exactly one of query and mix")
    if mix_BLN is None:
        assert query is not None
        return mix(transformer, query)
    L, N, _ = router.keys.shape
    e_BLN = mix_BLN[None] if mix_BLN.ndim == 2 else mix_BLN
    if e_BLN.ndim != 3 or tuple(e_BLN.shape[1:]) != (L, N) or len(e_BLN) == 0:
        raise ValueError(f"the mix has shape {tuple(mix_BLN.shape)}, this basis needs [batch, {L}, {N}] or [{L}, {N}]")
    _check_finite("mix", e_BLN)
    return e_BLN.to(router.keys.device, torch.float32)


def _check_finite(name: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(f"the {name} holds values that are not finite; look at what made it")


def _refuse_internal(router: Router) -> None:
    if router.config.internal:
        raise ValueError(
            "this basis has internal queries: its coefficients change with layer, step and noise, so that there is no "
            "query to give and no mix to keep; open `with analogy(transformer):` and run the model"
        )


def check_strength(strength: float) -> None:
    """Raises ValueError unless it is finite, as a float32 too."""
    if not abs(strength) <= torch.finfo(torch.float32).max:
        raise ValueError(f"strength is {strength}; it must be a finite number")


@contextmanager
def analogy(
    transformer: nn.Module, query: Tensor | None = None, mix: Tensor | None = None, strength: float = 1.0
) -> Iterator[Tensor | None]:
    """Run the transformer under an analogy; yields the coefficients e [B, L, N], strength included.

    Give a query [B, Q] (gradients flow to keys and projections) or a ready mix [B, L, N]. Row i of a batch follows
    analogy i; `lorweb.basis.layer.BasisLinear.forward` says how rows repeat. A basis with internal queries takes
    neither, and yields None: each layer asks with what it sees. Strength scales the update: 0 is the base bit for bit,
    negative values undo the edit. Blocks nest, and an exception restores what was set before.

    With gradient checkpointing call backward INSIDE the block: checkpointing runs the forward again during backward.
    Each micro-batch needs its own block: backward frees the graph of its coefficients.

    Raises:
        ValueError: no basis, or query, mix or strength do not fit.
        RuntimeError: backward ran after the block had closed, under gradient checkpointing; or a fold is in place.
    """
    router, layers = router_of(transformer), list(basis_layers(transformer).values())
    internal = router.config.internal and query is None and mix is None
    e_BLN = None if internal else as_mix(transformer, query, mix)
    if any(layer.folded for layer in layers):
        raise RuntimeError("an analogy is folded into the weights and would be added twice; call unfold(...) first")
    check_strength(strength)
    session = Session()
    with ExitStack() as stack:
        stack.callback(session.close)
        stack.enter_context(_restoring(layers))
        if e_BLN is None:
            keys_LND = _watch(router.keys.view_as(router.keys), session, layers)
            for layer, own in zip(layers, _own_queries(router, keys_LND, strength), strict=True):
                layer.e_BK, layer.own_query, layer.session = None, own, weakref.ref(session)
            handle = owner_of(transformer).register_forward_pre_hook(_read_positions, with_kwargs=True)
            stack.callback(handle.remove)
        else:
            e_BLN = _watch(e_BLN * strength, session, layers)
            per_layer = e_BLN.repeat_interleave(layers[0].rank, dim=2).unbind(1) if strength else [None] * len(layers)
            for layer, e_BK in zip(layers, per_layer, strict=True):
                layer.e_BK, layer.own_query, layer.session = e_BK, None, weakref.ref(session)
        yield e_BLN


@contextmanager
def _restoring(layers: list[BasisLinear]) -> Iterator[None]:
    """What the layers had set comes back at the end."""
    before = [(layer.e_BK, layer.own_query, layer.tokens_M, layer.session) for layer in layers]
    try:
        yield
    finally:
        for layer, (e_BK, own_query, tokens_M, session) in zip(layers, before, strict=True):
            layer.e_BK, layer.own_query, layer.tokens_M, layer.session = e_BK, own_query, tokens_M, session


def _own_queries(router: Router, keys_LND: Tensor, strength: float) -> list[OwnQuery | None]:
    if not strength:
        return [None] * len(keys_LND)
    return [
        OwnQuery(keys_ND, router.projection_of(index), router.config, strength)
        for index, keys_ND in enumerate(keys_LND.unbind(0))
    ]


def _read_positions(owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Before each forward, read from its position ids where a, a' and b lie, and tell the layers.

    A function of its module alone: a copy of the model that is made meanwhile tells its own layers.
    """
    layers = basis_layers(owner)
    if not any(layer.own_query for layer in layers.values()):
        return
    given = inspect.signature(owner.forward).bind(*args, **kwargs).arguments
    img_ids, txt_ids = (ids[0] if ids.ndim == 3 else ids for ids in (given["img_ids"], given["txt_ids"]))
    tokens = token_indices(router_of(owner).config.query_mode, img_ids, len(txt_ids))
    for name, layer in layers.items():
        layer.tokens_M = tokens[stream_of(name)]


def _watch(routed: Tensor, session: Session, layers: list[BasisLinear]) -> Tensor:
    """Refuse gradients that reach coefficients (or keys) from a forward that was run again outside of their analogy.

    Gradient checkpointing runs the forward again in backward: after the block has closed, or inside another one, it
    does so under other coefficients, which PyTorch cannot see. The hook keeps the session alive exactly as long as the
    graph: layers hold it only weakly.
    """
    if not torch.is_grad_enabled():
        return routed
    if not routed.requires_grad:
        routed = routed.detach().requires_grad_()

    def refuse_another_analogy(_: Tensor) -> None:
        current = None if layers[0].session is None else layers[0].session()
        task = torch._C._current_graph_task_id()
        if current is not session and any(layer.recomputed_in == task for layer in layers):
            raise RuntimeError(CLOSED)

    routed.register_hook(refuse_another_analogy)
    return routed
