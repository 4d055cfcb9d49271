"""Where the parts of a base live: on the device, or in main memory until they are needed there (offload).

diffusers moves the base's own weights, by accelerate's hooks. A basis is read outside forward passes as well (mix,
fold, bake), so this module sees to it that coefficients and factors lie where the transformer runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import torch

from lorweb.basis import basis_layers
from lorweb.basis.inject import router_of
from lorweb.kontext.load import Base

Offload = Literal["none", "model", "sequential"]
"""none: all on the device. model: one whole model at a time. sequential: one layer at a time, least memory, slow."""


@dataclass(frozen=True)
class Place:
    """Device to run on, dtype of the base's weights, and how they get there."""

    device: str
    dtype: torch.dtype
    offload: Offload

    @classmethod
    def of(cls, device: str | None, dtype: torch.dtype | None, offload: Offload) -> "Place":
        """None is CUDA where there is one, else the CPU; bfloat16 on CUDA, and float32 elsewhere (faster on a CPU).

        Raises:
            ValueError: an unknown offload, or one without an accelerator to offload from.
        """
        if offload not in get_args(Offload):
            raise ValueError(f"offload is '{offload}'; use one of {', '.join(get_args(Offload))}")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if offload != "none" and torch.device(device).type == "cpu":
            raise ValueError(
                f"offload '{offload}' keeps weights in main memory until an accelerator needs them, but the device is "
                "the CPU; use offload 'none', or name an accelerator"
            )
        return cls(device, dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32), offload)

    @property
    def loading(self) -> str:
        """Where a base is loaded to: with offload its weights never lie on the device all at once."""
        return self.device if self.offload == "none" else "cpu"


def check_at_hand(base: Base) -> None:
    """Refuse to add a basis to a base that is offloaded layer by layer: its weights are placeholders at rest.

    Raises:
        ValueError: some weights are not in memory.
    """
    if any(p.is_meta for p in base.transformer.parameters()):
        raise ValueError(
            "the base's layers are offloaded one by one, so that a basis cannot be added; give the base as it was "
            "loaded, and say offload='sequential' with the basis"
        )


def settle(base: Base, place: Place) -> None:
    """Bring a base that carries its basis into place; last of all, since hooks cover the layers that are there.

    With sequential offload the basis itself stays on the device: 3.3 GB in float32 at the paper's size.
    """
    if place.offload == "none":
        base.transformer.to(base.device)
    elif place.offload == "model":
        base.pipeline.enable_model_cpu_offload(device=place.device)
    else:
        base.pipeline.enable_sequential_cpu_offload(device=place.device)
        _keep_basis(base)


def _keep_basis(base: Base) -> None:
    """Take the basis out of the hooks' hands again."""
    from accelerate.hooks import remove_hook_from_module

    for module in chain(basis_layers(base.transformer).values(), router_of(base.transformer).modules()):
        remove_hook_from_module(module)
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(base.device)


def bring(transformer: Any) -> None:
    """Call the hook that brings a model in before its forward pass: coefficients are made where its keys lie."""
    hook = getattr(transformer, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(transformer)


def check_foldable(base: Base) -> None:
    """Raises ValueError where layers are offloaded one by one, since a fold needs them all."""
    if any(layer.weight.is_meta for layer in basis_layers(base.transformer).values()):
        raise ValueError(
            "an analogy cannot be folded into weights that are offloaded one by one; set fold = False, or use "
            "offload='model'"
        )


@contextmanager
def released(base: Base) -> Iterator[None]:
    """After the block, models that were brought in go back to main memory, as after a stock pipeline's call."""
    try:
        yield
    finally:
        base.pipeline.maybe_free_model_hooks()
