"""A base and what is trained on it as numbers: every linear of the transformer, and the sizes of what is trained.

Read off a transformer on the meta device, so that nothing is loaded.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from lorweb.basis import BasisConfig, count_parameters
from lorweb.basis.inject import match_targets

Stream = Literal["image", "text", "joint", "row"]
"""What passes through a linear: tokens of the image, of the text, of both, or one vector per analogy (modulation)."""
VAE_OF_KONTEXT: Final = 83_819_683
TEXT_OF_KONTEXT: Final = 4_762_310_656 + 123_060_480
"""Values of FLUX.1's T5-XXL and CLIP-L text encoders."""


@dataclass(frozen=True)
class Linear:
    """One linear layer; `rank` is that of its basis (N * r), 0 without one, and `block` the block it lies in, or ""."""

    name: str
    inputs: int
    outputs: int
    stream: Stream
    rank: int
    block: str

    @property
    def values(self) -> int:
        """Frozen weights, without the bias."""
        return self.inputs * self.outputs

    @property
    def adapter(self) -> int:
        """Values of A and B."""
        return self.rank * (self.inputs + self.outputs)


@dataclass(frozen=True)
class Block:
    """The linears of one block of the transformer."""

    name: str
    double: bool  # image and text apart, or one joint stream
    linears: tuple[Linear, ...]

    @property
    def values(self) -> int:
        """Frozen weights of the linears."""
        return sum(linear.values for linear in self.linears)

    @property
    def adapter(self) -> int:
        """Values of A and B of all layers."""
        return sum(linear.adapter for linear in self.linears)


@dataclass(frozen=True)
class Others:
    """Values of what else a base consists of: training keeps the VAE for its sheets, and loads no text encoder."""

    vae: int
    text: int


@dataclass(frozen=True)
class Trained:
    """Values of one trained tensor, and whether they begin at zero, as those of B."""

    values: int
    zero: bool


@dataclass(frozen=True)
class Model:
    """Sizes of a frozen FluxTransformer2DModel and of the basis in it."""

    width: int  # D, of a token
    heads: int
    channels: int  # of a packed token, 64
    text_width: int
    pooled_width: int
    query_width: int  # 0 where layers ask themselves
    linears: tuple[Linear, ...]
    base_values: int  # of the transformer
    others: Others
    router: int  # values of keys and projections
    router_tensors: tuple[Trained, ...]  # the same, tensor by tensor

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """In the order of the forward pass."""
        found: dict[str, list[Linear]] = {}
        for linear in self.linears:
            if linear.block:
                found.setdefault(linear.block, []).append(linear)
        return tuple(Block(name, not name.startswith("single"), tuple(own)) for name, own in found.items())

    @property
    def adapters(self) -> int:
        """Values of A and B of all layers."""
        return sum(linear.adapter for linear in self.linears)

    @property
    def trained(self) -> int:
        """Values that are trained."""
        return self.adapters + self.router

    @cached_property
    def tensors(self) -> tuple[Trained, ...]:
        """Every trained tensor."""
        wrapped = [linear for linear in self.linears if linear.rank]
        a = [Trained(linear.rank * linear.inputs, False) for linear in wrapped]
        b = [Trained(linear.rank * linear.outputs, True) for linear in wrapped]
        return (*a, *b, *self.router_tensors)


def read_model(transformer: nn.Module, basis: BasisConfig, others: Others) -> Model:
    """The numbers of a stock transformer (meta device or not) and of a basis that is not in it yet.

    Raises:
        ValueError: a target pattern matches no linear layer.
    """
    config: Any = transformer.config
    targets = set(match_targets(transformer, basis.targets))
    linears = tuple(
        _linear(name, module, basis.total_rank if name in targets else 0)
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
    )
    wrapped = [(linear.inputs, linear.outputs) for linear in linears if linear.rank]
    keys = basis.n_loras * basis.key_dim * len(wrapped)
    projections = count_parameters(basis, wrapped) - keys - sum(linear.adapter for linear in linears)
    apart = [basis.key_dim * inputs for inputs, _ in wrapped] if basis.internal and projections else [projections]
    return Model(
        width=config.num_attention_heads * config.attention_head_dim,
        heads=config.num_attention_heads,
        channels=config.in_channels,
        text_width=config.joint_attention_dim,
        pooled_width=config.pooled_projection_dim,
        query_width=basis.query_dim or 0,
        linears=linears,
        base_values=sum(parameter.numel() for parameter in transformer.parameters()),
        others=others,
        router=keys + projections,
        router_tensors=tuple(Trained(size, False) for size in (keys, *apart) if size),
    )


def read_others(folder: Path) -> Others:
    """VAE and text encoders of a base folder, from the headers of their weight files; no weight is read."""
    return Others(_values(folder / "vae"), _values(folder / "text_encoder") + _values(folder / "text_encoder_2"))


def _values(folder: Path) -> int:
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in list(file.keys()))
    return total


def _linear(name: str, module: nn.Linear, rank: int) -> Linear:
    parts = name.split(".")
    block = ".".join(parts[:2]) if parts[0] in ("transformer_blocks", "single_transformer_blocks") else ""
    return Linear(name, module.in_features, module.out_features, _stream(name), rank, block)


def _stream(name: str) -> Stream:
    """By the names that diffusers gives the layers."""
    if "norm" in name or name.startswith("time_text_embed"):
        return "row"
    if name.startswith("single_transformer_blocks"):
        return "joint"
    if name == "context_embedder":
        return "text"
    last = name.split(".", 2)[-1]
    texts = ("attn.add_q", "attn.add_k", "attn.add_v", "attn.to_add_out", "ff_context")
    return "text" if last.startswith(texts) else "image"
