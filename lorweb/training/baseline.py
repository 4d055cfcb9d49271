"""The baselines, in the same loop as the basis: plain LoRAs by stock PEFT, and a basis with constant coefficients.

`single_lora` has rank N*r on the basis' own layers: the adapter parameters of the basis, and no router.
`single_lora_equal` has as many parameters as basis and router together. `basis_constant` has the basis and no router.
The question is what mixing by the exemplar adds.

Legend: L layers, N LoRAs of rank r, K = N * r.
"""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from lorweb.basis import BasisConfig, checkpoint, count_parameters, target_sizes
from lorweb.basis.files import read_safetensors, write_safetensors
from lorweb.kontext.metadata import BASIS_FILE
from lorweb.training.variants import (
    VARIANT,
    Variant,
    VariantName,
    basis_variant,
    constant_variant,
    new_basis,
    new_constant,
)

ADAPTER_FILE: Final = "adapter.safetensors"
EQUAL: Final = "single_lora_equal"


def new_single_lora(transformer: nn.Module, rank: int, targets: tuple[str, ...], seed: int) -> Variant:
    """Inject an untrained PEFT LoRA (alpha = rank, so its scale is 1) into every targeted linear, in place.

    Raises:
        ValueError: a pattern matches no linear layer.
    """
    ranks = dict.fromkeys(target_sizes(transformer, targets), rank)
    return _new_lora("single_lora", transformer, ranks, seed)


def new_equal_lora(transformer: nn.Module, config: BasisConfig, seed: int) -> Variant:
    """The same with the ranks of `equal_ranks`, in place. Raises ValueError as `new_single_lora` does."""
    return _new_lora(EQUAL, transformer, equal_ranks(config, target_sizes(transformer, config.targets)), seed)


def equal_ranks(config: BasisConfig, sizes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Rank per layer of a plain LoRA with as many parameters as the basis of `config` and its router.

    `sizes`: {layer: (in_features, out_features)}. One rank of a layer costs in + out. Each layer gets what its own
    A, B, keys and projection pay for (of a shared projection, an L-th), rounded down; what the rounding left goes to
    the layers that lost most, as far as it pays for whole ranks. So the sum is below that of the basis by less than
    one rank of one layer. A rank may exceed the width of its layer: equal in numbers is not equal in use.
    """
    costs = {name: i + o for name, (i, o) in sizes.items()}
    shared = config.projection == "shared"
    alone = config.model_copy(update={"projection": "none"}) if shared else config
    share = Fraction(config.key_dim * (config.query_dim or 0), len(sizes)) if shared else Fraction(0)
    exact = {name: (count_parameters(alone, [sizes[name]]) + share) / costs[name] for name in sizes}
    ranks = {name: int(rank) for name, rank in exact.items()}
    left = count_parameters(config, sizes.values()) - sum(ranks[name] * costs[name] for name in sizes)
    for name in sorted(sizes, key=lambda name: ranks[name] - exact[name]):
        if costs[name] <= left:
            ranks[name], left = ranks[name] + 1, left - costs[name]
    return ranks


def lora_variant(transformer: nn.Module, name: VariantName) -> Variant:
    """The variant of a transformer that has a PEFT LoRA already. Its factors become float32 whatever the base is in."""
    adapters = {key: parameter for key, parameter in transformer.named_parameters() if ".lora_" in key}
    for parameter in adapters.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    marks = {} if name == "single_lora" else {VARIANT: name}
    return Variant(
        name,
        transformer,
        adapters,
        {},
        lambda _query_BQ: nullcontext(),
        lambda _query_BQ: None,
        lambda folder, facts: _save(transformer, folder / ADAPTER_FILE, {**facts, **marks}),
    )


def new_variant(name: VariantName, transformer: nn.Module, config: BasisConfig, seed: int) -> Variant:
    """The one switch: put what `name` says into a transformer. Equal layers, equal seed.

    Raises:
        ValueError: a pattern matches no linear layer.
    """
    if name == "lorweb":
        return new_basis(transformer, config, seed)
    if name == "basis_constant":
        return new_constant(transformer, config, seed)
    if name == EQUAL:
        return new_equal_lora(transformer, config, seed)
    return new_single_lora(transformer, config.total_rank, config.targets, seed)


def weights_file(name: str) -> str:
    """Name of the file that a baseline (or anything else: a basis) is saved in."""
    return ADAPTER_FILE if name in ("single_lora", EQUAL) else BASIS_FILE


def load_variant(transformer: nn.Module, folder: Path) -> Variant:
    """Put a trained basis or baseline from its folder (models/candidate, models/baselines/NAME) into a transformer.

    Raises:
        FileNotFoundError: the folder holds neither basis.safetensors nor adapter.safetensors.
        ValueError: the weights do not fit this transformer.
    """
    if (folder / BASIS_FILE).is_file():
        _, facts = checkpoint.load(transformer, folder / BASIS_FILE)
        return constant_variant(transformer) if facts.get(VARIANT) == "basis_constant" else basis_variant(transformer)
    if not (folder / ADAPTER_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds neither {BASIS_FILE} nor {ADAPTER_FILE}; run the train stage first")
    return _load(transformer, folder / ADAPTER_FILE)


def _new_lora(name: VariantName, transformer: nn.Module, ranks: Mapping[str, int], seed: int) -> Variant:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _inject(transformer, ranks)
    variant = lora_variant(transformer, name)
    assert len(variant.adapters) == 2 * len(ranks), f"{len(variant.adapters)} LoRA factors for {len(ranks)} layers"
    return variant


def _inject(transformer: nn.Module, ranks: Mapping[str, int]) -> None:
    """Freeze the base and put a LoRA of its own rank on each layer, at scale 1."""
    from peft import LoraConfig, inject_adapter_in_model

    transformer.requires_grad_(False)
    usual = min(ranks.values())
    # PEFT looks for each layer's name in every key of these, as in a regular expression: one key per rank, then
    named = {rank: [re.escape(name) for name, own in ranks.items() if own == rank] for rank in set(ranks.values())}
    patterns = {"|".join(names): rank for rank, names in sorted(named.items()) if rank != usual}
    config = LoraConfig(
        r=usual,
        lora_alpha=usual,
        target_modules=list(ranks),
        rank_pattern=patterns,
        alpha_pattern=dict(patterns),
    )
    inject_adapter_in_model(config, transformer)


def _save(transformer: Any, path: Path, facts: Mapping[str, str]) -> None:
    from peft import get_peft_model_state_dict

    write_safetensors(path, get_peft_model_state_dict(transformer), dict(facts))


def _load(transformer: nn.Module, path: Path) -> Variant:
    from peft import set_peft_model_state_dict

    state, facts = read_safetensors(path)
    suffix = ".lora_A.weight"
    ranks = {name.removesuffix(suffix): len(value) for name, value in state.items() if name.endswith(suffix)}
    known = dict(transformer.named_modules())
    strange = sorted(set(ranks) - set(known))
    name: VariantName = "single_lora_equal" if facts.get(VARIANT) == EQUAL else "single_lora"
    if not ranks or strange or len(state) != 2 * len(ranks) or (len(set(ranks.values())) > 1 and name != EQUAL):
        raise ValueError(
            f"{path} is no single LoRA of this base: ranks {sorted(set(ranks.values()))}, {len(strange)} unknown "
            f"layers {strange[:3]}; load it into the base it was trained on"
        )
    _inject(transformer, ranks)
    result = set_peft_model_state_dict(transformer, state)
    assert not result.unexpected_keys, result.unexpected_keys[:3]
    return lora_variant(transformer, name)
