"""One analogy as a plain LoRA, or inside the weights.

dW = sum_i e_i B_i A_i has rank <= N*r, so a plain LoRA of that rank is exact.

Legend: L layers, N LoRAs, K = N * r, R rank of the result, I in_features, O out_features.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lorweb.basis.comfyui import PREFIX
from lorweb.basis.context import as_mix, check_strength
from lorweb.basis.inject import basis_layers, router_of
from lorweb.basis.layer import BasisLinear
from lorweb.basis.lora_file import Baked
from lorweb.basis.low_rank import rounded, square_norm, truncate
from lorweb.basis.mixes import mix_hash

Progress = Callable[[int, int], None]  # (layers done, layers in all), after each layer


def bake(
    transformer: nn.Module,
    query_or_mix: Tensor,
    rank: int | None = None,
    progress: Progress | None = None,
    dtype: torch.dtype = torch.float32,
) -> Baked:
    """Fold one analogy into a plain LoRA; the transformer is not changed.

    `query_or_mix` is one query [Q] or [1, Q], or one mix [L, N] or [1, L, N]. Without `rank` the result has rank N*r
    and is exact; with it, it is the best approximation of that rank (SVD), padded with zeros where a layer has less.
    So all layers have one rank, which is what hot-swapping wants. `progress(done, layers)` is called after each layer.
    A 16-bit `dtype` halves the file; the errors then are of the factors as they are after rounding.

    Raises:
        ValueError: more than one analogy, a shape that fits neither, internal queries, rank < 1, or a value that is not
            finite in `dtype`.
    """
    if rank is not None and rank < 1:
        raise ValueError(f"rank is {rank}; give a positive rank, or None for the exact one")
    e_LN = one_mix(transformer, query_or_mix)
    layers = basis_layers(transformer)
    state_dict: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    lost = norm = 0.0
    for done, ((name, layer), e_N) in enumerate(zip(layers.items(), e_LN, strict=True), start=1):
        A_KI, B_OK = factors(layer, e_N)
        if rank is None:
            A_RI, B_OR, lost_here, norm_here = A_KI, B_OK, 0.0, 0.0
        else:
            A_RI, B_OR, lost_here, norm_here = truncate(A_KI, B_OK, rank)
        if dtype != torch.float32:
            A_RI, B_OR = rounded(A_RI, dtype, f"{name}.A"), rounded(B_OR, dtype, f"{name}.B")
            norm_here = square_norm(A_KI, B_OK)
            lost_here = square_norm(torch.cat([A_KI, A_RI.float()]), torch.cat([B_OK, -B_OR.float()], dim=1))
        state_dict[f"{PREFIX}{name}.lora_A.weight"] = A_RI.contiguous()
        state_dict[f"{PREFIX}{name}.lora_B.weight"] = B_OR.contiguous()
        errors[name] = (lost_here / norm_here) ** 0.5 if norm_here else 0.0
        lost, norm = lost + lost_here, norm + norm_here
        if progress is not None:
            progress(done, len(layers))
    final = router_of(transformer).config.total_rank if rank is None else rank
    return Baked(state_dict, final, final, errors, (lost / norm) ** 0.5 if norm else 0.0, mix_hash(e_LN))


def one_mix(transformer: nn.Module, query_or_mix: Tensor) -> Tensor:
    """The coefficients [L, N] of exactly one analogy, from a query or a mix (see `bake`). Raises ValueError."""
    router = router_of(transformer)
    L, N, _ = router.keys.shape
    fits_mix = query_or_mix.ndim >= 2 and tuple(query_or_mix.shape[-2:]) == (L, N)
    fits_query = query_or_mix.ndim <= 2 and query_or_mix.shape[-1:] == (router.config.query_dim,)
    if fits_mix and fits_query:
        raise ValueError(
            f"shape {tuple(query_or_mix.shape)} is a query as well as a mix here; "
            f"give [{N}] for the query or [1, {L}, {N}] for the mix"
        )
    e_BLN = as_mix(transformer, None, query_or_mix) if fits_mix else as_mix(transformer, query_or_mix, None)
    if len(e_BLN) != 1:
        raise ValueError(f"got {len(e_BLN)} analogies; weights hold one analogy at a time, give one row")
    return e_BLN[0].detach()


def factors(layer: BasisLinear, e_N: Tensor) -> tuple[Tensor, Tensor]:
    """(A [K, I], B [O, K]) in float32 with dW = B A: the coefficients go into B, sign included."""
    e_K = e_N.float().repeat_interleave(layer.rank)
    return layer.A.detach().float().clone(), layer.B.detach().float() * e_K


def fold(transformer: nn.Module, query_or_mix: Tensor, strength: float = 1.0) -> None:
    """Add one analogy to the weights: denoising then costs what the base costs. `unfold` gives the weights back.

    The originals are kept beside the layers, so the targeted weights take twice their memory until `unfold`.
    The sum is made in float32 and rounded once to the weights' dtype.

    Raises:
        ValueError: a fold is in place already, an analogy is open, a weight is quantised or shared by two layers,
            strength is not finite, or see `bake`.
    """
    check_strength(strength)
    layers = basis_layers(transformer)
    if len({id(layer.weight) for layer in layers.values()}) < len(layers):
        raise ValueError("two layers share one weight, which cannot take both their updates; use analogy(...) instead")
    for name, layer in layers.items():
        if layer.folded:
            raise ValueError("an analogy is folded into this transformer already; call unfold(transformer) first")
        if layer.e_BK is not None or layer.own_query is not None:
            raise ValueError("an analogy is open and would be added twice; fold outside of `with analogy(...):`")
        if not _takes_updates(layer):
            raise ValueError(
                f"{name} has a quantised weight ({type(layer.weight.data).__name__}, {layer.weight.dtype}), which "
                "cannot take an update; use analogy(...) or bake(...) instead"
            )
    try:
        for layer, e_N in zip(layers.values(), one_mix(transformer, query_or_mix), strict=True):
            A_KI, B_OK = factors(layer, e_N * strength)
            original = layer.weight.data
            layer.weight.data = torch.addmm(original.float(), B_OK, A_KI).to(original.dtype)
            layer.unfolded = original
    except BaseException:  # memory may run out half way: all weights or none
        _restore(layers.values())
        raise


def _takes_updates(layer: BasisLinear) -> bool:
    """A plain floating-point matrix; torchao's tensors call themselves float32 and are none."""
    W = layer.weight.data
    return type(W) is Tensor and W.is_floating_point() and tuple(W.shape) == (layer.out_features, layer.in_features)


def unfold(transformer: nn.Module) -> None:
    """Put the original weights back, bit for bit. Raises ValueError if nothing is folded."""
    layers = basis_layers(transformer)
    if not any(layer.folded for layer in layers.values()):
        raise ValueError("nothing is folded into this transformer; call fold(transformer, query) first")
    _restore(layers.values())


def _restore(layers: Iterable[BasisLinear]) -> None:
    for layer in layers:
        if layer.unfolded is not None:
            layer.weight.data = layer.unfolded.to(layer.weight.device, layer.weight.dtype)
            layer.unfolded = None


@contextmanager
def folded(transformer: nn.Module, query_or_mix: Tensor, strength: float = 1.0) -> Iterator[None]:
    """`fold` for a `with` block, `unfold` at its end, exceptions included."""
    fold(transformer, query_or_mix, strength)
    try:
        yield
    finally:
        unfold(transformer)
