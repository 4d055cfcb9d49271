"""What is trained on the frozen base, the basis or a baseline, behind one interface: one loop trains them all."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from lorweb.basis import BasisConfig, add_basis, analogy, basis_layers, checkpoint, has_mix, router_of
from lorweb.kontext.metadata import BASIS_FILE
from lorweb.training.entries import Basis

VariantName = Literal["lorweb", "single_lora"]


@dataclass(frozen=True)
class Variant:
    """A frozen transformer with something trainable in it.

    `adapters` and `router` map parameter names to float32 parameters; a plain LoRA has no router. Forward and backward
    run inside `conditioned(query [B, Q])`; a plain LoRA ignores the query.
    """

    name: VariantName
    transformer: Any
    adapters: Mapping[str, nn.Parameter]
    router: Mapping[str, nn.Parameter]
    conditioned: Callable[[Tensor], AbstractContextManager[object]]
    save: Callable[[Path, Mapping[str, str]], None]  # writes the weights, and facts about them, into a folder

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, in a fixed order."""
        return dict(sorted({**self.adapters, **self.router}.items()))

    @property
    def size(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def new_basis(transformer: nn.Module, config: BasisConfig, seed: int) -> Variant:
    """Put an untrained basis into a transformer, in place."""
    add_basis(transformer, config, seed)
    return basis_variant(transformer)


def basis_variant(transformer: nn.Module) -> Variant:
    """The variant of a transformer that has a basis already."""
    adapters = {}
    for name, layer in basis_layers(transformer).items():
        adapters[f"{name}.A"], adapters[f"{name}.B"] = layer.A, layer.B
    return Variant(
        "lorweb",
        transformer,
        adapters,
        {f"router.{name}": parameter for name, parameter in router_of(transformer).named_parameters()},
        lambda query_BQ: analogy(transformer, query_BQ if has_mix(transformer) else None),
        lambda folder, facts: checkpoint.save(transformer, folder / BASIS_FILE, facts),
    )


def basis_config(section: Basis, query_dim: int, query_mode: str) -> BasisConfig:
    """The parameter file's section, completed by what the encode stage decided (unless queries are internal)."""
    basis = section.model_dump(exclude={"internal"})
    if section.internal is None:
        return BasisConfig(**basis, query_dim=query_dim, query_mode=query_mode)
    own = section.internal
    return BasisConfig(**basis, query_dim=None, query_mode=own.mode, query_source="internal", pooling=own.pooling)
