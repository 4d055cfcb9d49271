"""What is trained on the frozen base, the basis or a baseline, behind one interface: one loop trains them all."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor, nn

from lorweb.basis import BasisConfig, add_basis, analogy, basis_layers, checkpoint, has_mix, router_of
from lorweb.kontext.metadata import BASIS_FILE
from lorweb.training.entries import Basis

VariantName = Literal["lorweb", "single_lora", "single_lora_equal", "basis_constant"]
VARIANT: Final = "variant"
"""Key in the metadata of a weights file: which baseline it holds, where its tensors alone do not say it."""


@dataclass(frozen=True)
class Variant:
    """A frozen transformer with something trainable in it.

    `adapters` and `router` map parameter names to float32 parameters; a plain LoRA has no router. Forward and backward
    run inside `conditioned(query [B, Q])`; a plain LoRA ignores the query. `asked` says what the router hears of a
    query, None where no mix answers it: that is what `lorweb.basis.mix` takes.
    """

    name: VariantName
    transformer: Any
    adapters: Mapping[str, nn.Parameter]
    router: Mapping[str, nn.Parameter]
    conditioned: Callable[[Tensor], AbstractContextManager[object]]
    asked: Callable[[Tensor], Tensor | None]
    save: Callable[[Path, Mapping[str, str]], None]  # writes the weights, and facts about them, into a folder

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, in a fixed order."""
        return dict(sorted({**self.adapters, **self.router}.items()))

    @property
    def parts(self) -> tuple[list[str], ...]:
        """Names of all that is trained, of the router, of the LoRAs, of the keys, and of the projections."""
        keys, rest = ([name for name in self.router if (name == "router.keys") == own] for own in (True, False))
        return list(self.parameters), list(self.router), list(self.adapters), keys, rest

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
    return _of_basis("lorweb", transformer, lambda query_BQ: query_BQ if has_mix(transformer) else None, {})


def new_constant(transformer: nn.Module, config: BasisConfig, seed: int) -> Variant:
    """Put an untrained basis whose coefficients are constants into a transformer: N numbers per layer, in place.

    It is a basis with keys of width 1, no projection, and 1 for every query, so that e = softmax(k) or tanh(k) of N
    numbers k ~ N(0, 1), drawn as keys are. A and B begin with the same values as those of `new_basis`.
    """
    plain = {"key_dim": 1, "query_dim": 1, "heads": 1, "projection": "none"}
    add_basis(
        transformer,
        BasisConfig(**{**config.model_dump(), **plain, "query_source": "external", "pooling": None}),
        seed,
    )
    return constant_variant(transformer)


def constant_variant(transformer: nn.Module) -> Variant:
    """The variant of a transformer that has a basis with constant coefficients already."""
    return _of_basis(
        "basis_constant", transformer, lambda query_BQ: query_BQ.new_ones(len(query_BQ), 1), {VARIANT: "basis_constant"}
    )


def _of_basis(
    name: VariantName,
    transformer: nn.Module,
    asked: Callable[[Tensor], Tensor | None],
    marks: Mapping[str, str],
) -> Variant:
    adapters = {}
    for layer_name, layer in basis_layers(transformer).items():
        adapters[f"{layer_name}.A"], adapters[f"{layer_name}.B"] = layer.A, layer.B
    return Variant(
        name,
        transformer,
        adapters,
        {f"router.{part}": parameter for part, parameter in router_of(transformer).named_parameters()},
        lambda query_BQ: analogy(transformer, asked(query_BQ)),
        asked,
        lambda folder, facts: checkpoint.save(transformer, folder / BASIS_FILE, {**facts, **marks}),
    )


def basis_config(section: Basis, query_dim: int, query_mode: str) -> BasisConfig:
    """The parameter file's section, completed by what the encode stage decided (unless queries are internal)."""
    basis = section.model_dump(exclude={"internal"})
    if section.internal is None:
        return BasisConfig(**basis, query_dim=query_dim, query_mode=query_mode)
    own = section.internal
    return BasisConfig(**basis, query_dim=None, query_mode=own.mode, query_source="internal", pooling=own.pooling)
