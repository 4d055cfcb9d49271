"""The baseline: one LoRA of rank N*r on the basis' own layers, by stock PEFT, in the same loop.

It carries as many adapter parameters as the basis, and no router: the question is what mixing by the exemplar adds.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lorweb.basis import BasisConfig, checkpoint
from lorweb.basis.inject import match_targets
from lorweb.kontext.metadata import BASIS_FILE
from lorweb.training.variants import Variant, VariantName, basis_variant, new_basis

ADAPTER_FILE: Final = "adapter.safetensors"


def new_single_lora(transformer: nn.Module, rank: int, targets: tuple[str, ...], seed: int) -> Variant:
    """Inject an untrained PEFT LoRA (alpha = rank, so its scale is 1) into every targeted linear, in place.

    Raises:
        ValueError: a pattern matches no linear layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = match_targets(transformer, targets)
    transformer.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(names), init_lora_weights=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, transformer)
    variant = single_lora_variant(transformer)
    assert len(variant.adapters) == 2 * len(names), f"{len(variant.adapters)} LoRA factors for {len(names)} layers"
    return variant


def single_lora_variant(transformer: nn.Module) -> Variant:
    """The variant of a transformer that has a PEFT LoRA already. Its factors become float32 whatever the base is in."""
    adapters = {name: parameter for name, parameter in transformer.named_parameters() if ".lora_" in name}
    for parameter in adapters.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return Variant(
        "single_lora",
        transformer,
        adapters,
        {},
        lambda _query_BQ: nullcontext(),
        lambda folder, facts: _save(transformer, folder / ADAPTER_FILE, facts),
    )


def new_variant(name: VariantName, transformer: nn.Module, config: BasisConfig, seed: int) -> Variant:
    """The one switch: put what `name` says into a transformer. Equal rank budget N*r, equal layers, equal seed."""
    if name == "lorweb":
        return new_basis(transformer, config, seed)
    return new_single_lora(transformer, config.total_rank, config.targets, seed)


def load_variant(transformer: nn.Module, folder: Path) -> Variant:
    """Put a trained basis or baseline from its folder (models/candidate, models/baselines/NAME) into a transformer.

    Raises:
        FileNotFoundError: the folder holds neither basis.safetensors nor adapter.safetensors.
        ValueError: the weights do not fit this transformer.
    """
    if (folder / BASIS_FILE).is_file():
        checkpoint.load(transformer, folder / BASIS_FILE)
        return basis_variant(transformer)
    if not (folder / ADAPTER_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds neither {BASIS_FILE} nor {ADAPTER_FILE}; run the train stage first")
    return _load(transformer, folder / ADAPTER_FILE)


def _save(transformer: Any, path: Path, facts: Mapping[str, str]) -> None:
    from peft import get_peft_model_state_dict

    state = {name: value.detach().cpu().contiguous() for name, value in get_peft_model_state_dict(transformer).items()}
    save_file(state, path, metadata=dict(facts))


def _load(transformer: nn.Module, path: Path) -> Variant:
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    state = load_file(path)
    suffix = ".lora_A.weight"
    factors = {name.removesuffix(suffix): value for name, value in state.items() if name.endswith(suffix)}
    ranks = {len(value) for value in factors.values()}
    known = dict(transformer.named_modules())
    strange = sorted(set(factors) - set(known))
    if len(ranks) != 1 or strange or len(state) != 2 * len(factors):
        raise ValueError(
            f"{path} is no single LoRA of this base: ranks {sorted(ranks)}, {len(strange)} unknown layers "
            f"{strange[:3]}; load it into the base it was trained on"
        )
    rank = ranks.pop()
    transformer.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=sorted(factors)), transformer)
    result = set_peft_model_state_dict(transformer, state)
    assert not result.unexpected_keys, result.unexpected_keys[:3]
    return single_lora_variant(transformer)
