"""Parameters of what is trained and how it is updated: parts of the train section of lorweb.config."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lorweb.sections import Positive, Section, Share

Sharding = Literal["none", "zero1", "zero2"]
"""What of the state of training each worker keeps a share of: nothing; moments; moments and gradients."""
OptimizerName = Literal["adamw", "adamw_fused", "adamw_8bit", "adamw_8bit_bitsandbytes", "prodigy"]
BaseWeights = Literal["full", "int8", "nf4"]
"""What the weights of the frozen blocks are kept in while training."""


class InternalQuery(Section):
    """Queries from the layers' own input in the place of the encoder's (lorweb.basis.internal)."""

    mode: Literal["aa'bb'", "caa'bb'", "caa'", "caa'b"]
    pooling: Literal["avg", "max"]


class Basis(Section):
    n_loras: Positive
    rank: Positive
    key_dim: Positive
    heads: Positive
    activation: Literal["softmax", "tanh"]
    reduce: Literal["mean", "sum"]
    projection: Literal["linear", "shared", "none"]
    internal: InternalQuery | None
    targets: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _heads_divide_the_key(self) -> Self:
        if self.key_dim % self.heads:
            raise ValueError(f"key_dim {self.key_dim} is not divisible by heads {self.heads}; change one of them")
        return self


class Prodigy(Section):
    """Of the optimiser that finds its step size itself; `learning_rate` multiplies what it finds."""

    d0: Annotated[float, Field(gt=0)]
    d_coef: Annotated[float, Field(gt=0)]


class Optimizer(Section):
    name: OptimizerName
    learning_rate: Annotated[float, Field(gt=0)]
    router_multiplier: Annotated[float, Field(gt=0)]
    betas: tuple[Share, Share]
    eps: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    schedule: Literal["constant", "cosine", "linear"]
    prodigy: Prodigy | None

    @model_validator(mode="after")
    def _prodigy_has_its_own_numbers(self) -> Self:
        if (self.name == "prodigy") != (self.prodigy is not None):
            told = "set" if self.prodigy else "null"
            raise ValueError(
                f"name is '{self.name}' and prodigy is {told}; give prodigy: {{d0: 1.0e-6, d_coef: 1.0}} with name "
                "prodigy, and prodigy: null with every other name"
            )
        if self.prodigy and self.router_multiplier != 1.0:
            raise ValueError(
                f"router_multiplier is {self.router_multiplier}, but prodigy has one step size for all parameters; set "
                "it to 1.0, or take another optimiser"
            )
        return self


def forward_rows(batch_size: int, workers: int, accumulate: int) -> int:
    """Most analogies that one forward takes: what `accumulate` leaves of the largest part of a batch."""
    mine = -(-batch_size // workers)
    return -(-mine // accumulate)
