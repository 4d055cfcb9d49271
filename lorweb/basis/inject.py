"""Putting a basis into a stock transformer, and taking it out again."""

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import torch
from torch import nn

from lorweb.basis.config import BasisConfig
from lorweb.basis.internal import stream_of
from lorweb.basis.layer import BasisLinear
from lorweb.basis.router import Router
from lorweb.records import stable_id

ROUTER: Final = "basis_router"
"""Name of the child module that `add_basis` gives to the transformer."""
NO_BASIS: Final = "this transformer has no basis; call add_basis(transformer, config, seed) first"


@dataclass(frozen=True)
class BasisReport:
    """What `add_basis` did: the names of the wrapped layers in module order, and the number of trainable parameters."""

    layers: tuple[str, ...]
    trainable_parameters: int


def add_basis(transformer: nn.Module, config: BasisConfig, seed: int) -> BasisReport:
    """Wrap every linear that a pattern of `config.targets` matches, in place, and freeze everything else.

    The model stays the untouched base, bit for bit, until B is trained (paper 3.2). Basis parameters are float32 on the
    base's device. Each layer draws from its own stream, seeded by (seed, layer name): the same bytes whatever else is
    targeted. On the meta device nothing is drawn. What fuses or replaces linears (`fuse_qkv_projections`, quantisation)
    has to be done before: afterwards it would go past the basis.

    Raises:
        ValueError: a basis is there already, a pattern matches no linear layer (the message lists candidates), or an
            internal query does not fit a layer.
    """
    if has_basis(transformer):
        raise ValueError("this transformer already has a basis; call remove_basis(transformer) first")
    names = match_targets(transformer, config.targets)
    if config.internal:
        for name in names:
            stream_of(name)  # refuses layers that no internal query can serve
    wrapped = [BasisLinear(transformer.get_submodule(name), config) for name in names]
    router = Router(config, names, [layer.in_features for layer in wrapped], wrapped[0].A.device)
    transformer.requires_grad_(False)
    for index, (name, layer) in enumerate(zip(names, wrapped, strict=True)):
        if layer.A.device.type != "meta":
            generator = _stream(seed, name)
            layer.initialise(generator)
            router.initialise(index, generator)
        _replace(transformer, name, layer)
    if config.projection == "shared" and router.keys.device.type != "meta":
        router.initialise_projection(0, _stream(seed, "shared projection"))
    transformer.add_module(ROUTER, router)
    basis, routing = trainable(transformer)
    return BasisReport(names, sum(p.numel() for p in [*basis, *routing]))


def remove_basis(transformer: nn.Module) -> None:
    """Take the basis out: the stock modules are back in place. What `add_basis` froze stays frozen.

    Raises:
        ValueError: there is no basis, or an analogy is folded into the weights.
    """
    layers = basis_layers(transformer)
    folded = [name for name, layer in layers.items() if layer.folded]
    if folded:
        raise ValueError(f"an analogy is folded into {len(folded)} layers ({folded[0]}, ...); call unfold(...) first")
    owner = owner_of(transformer)
    for name, layer in layers.items():
        _replace(owner, name, layer.base)
    del owner._modules[ROUTER]


def has_basis(transformer: nn.Module) -> bool:
    """Whether `add_basis` was called on this transformer."""
    return any(isinstance(module, (Router, BasisLinear)) for module in transformer.modules())


def has_mix(transformer: nn.Module) -> bool:
    """Whether there is a basis whose coefficients depend on the query alone, so that `mix` can give them."""
    return has_basis(transformer) and not router_of(transformer).config.internal


def router_of(transformer: nn.Module) -> Router:
    """The router of a transformer, bare or wrapped (DDP, torch.compile). Raises ValueError if there is no basis."""
    for module in transformer.modules():
        if isinstance(module, Router):
            return module
    raise ValueError(NO_BASIS)


def owner_of(transformer: nn.Module) -> nn.Module:
    """The module that `add_basis` was called on, inside whatever wraps it. Raises ValueError if there is no basis."""
    for module in transformer.modules():
        if ROUTER in module._modules:
            return module
    raise ValueError(NO_BASIS)


def basis_layers(transformer: nn.Module) -> dict[str, BasisLinear]:
    """{layer name: layer} in the order of `BasisReport.layers`. Raises ValueError if there is no basis."""
    names = router_of(transformer).layer_names
    layers = [module for module in transformer.modules() if isinstance(module, BasisLinear)]
    assert len(names) == len(layers), f"{len(layers)} layers have a basis, the router knows {len(names)}"
    return dict(zip(names, layers, strict=True))


def trainable(transformer: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(A and B of every layer, keys and projections): two groups, so that the router may have its own learning rate."""
    basis = [p for layer in basis_layers(transformer).values() for p in (layer.A, layer.B)]
    return basis, list(router_of(transformer).parameters())


def target_sizes(transformer: nn.Module, targets: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """{layer name: (in_features, out_features)} of what the patterns match, with or without a basis in place.

    Its values are what `count_parameters` takes. Raises ValueError, see `add_basis`.
    """
    layers = {name: transformer.get_submodule(name) for name in match_targets(transformer, targets)}
    return {name: (int(layer.in_features), int(layer.out_features)) for name, layer in layers.items()}


def match_targets(transformer: nn.Module, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the linear layers that a pattern matches, in module order. Raises ValueError, see `add_basis`."""
    candidates = _linear_names(transformer)
    for pattern in targets:
        if not any(fnmatchcase(name, pattern) for name in candidates):
            near = difflib.get_close_matches(pattern, candidates, n=3, cutoff=0.0)
            raise ValueError(
                f"target pattern '{pattern}' matches none of the {len(candidates)} linear layers; "
                f"nearest: {', '.join(near) or 'none'}"
            )
    return tuple(name for name in candidates if any(fnmatchcase(name, pattern) for pattern in targets))


def _stream(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(stable_id("basis", seed, name), 16) % 2**63)


def _linear_names(transformer: nn.Module) -> list[str]:
    """Everything with in_features and out_features: nn.Linear and the linears of quantisation libraries.

    A linear inside another one (an adapter's own) is left to its owner.
    """
    names: list[str] = []
    for name, module in transformer.named_modules():
        sizes = (getattr(module, "in_features", None), getattr(module, "out_features", None))
        if name and all(isinstance(size, int) for size in sizes) and not (names and name.startswith(names[-1] + ".")):
            names.append(name)
    return names


def _replace(transformer: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(transformer.get_submodule(parent), child, module)
