"""What defines a basis, and how many parameters it has."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lorweb.basis.query import mode_of

Positive = Annotated[int, Field(gt=0)]
BLOCK_LINEARS: Final = ("transformer_blocks.*", "single_transformer_blocks.*")
"""The paper's targets: every linear of the double and single blocks, 494 on FLUX.1."""


class BasisConfig(BaseModel):
    """A LoRA basis and its router (paper 3.2). Numbers have no defaults: the parameter file is their home.

    Raises:
        ValueError (pydantic's ValidationError): a missing or unknown field, or values that do not fit together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_loras: Positive  # N, LoRAs per layer
    rank: Positive  # r of each LoRA
    key_dim: Positive  # d of Eq. 4
    query_dim: Positive  # D_q, width of the query before the projection P
    heads: Positive  # keys and query are split into this many parts
    activation: Literal["softmax", "tanh"]  # of Eq. 4
    reduce: Literal["mean", "sum"]  # over heads; "sum" is clamped to [0, 1] (softmax) or [-1, 1] (tanh)
    projection: Literal["linear", "none"]  # P of Eq. 3; "none" needs key_dim == query_dim
    query_mode: str  # a row of lorweb.basis.query.MODES
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = BLOCK_LINEARS  # fnmatch patterns over module names

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        mode_of(self.query_mode)
        if self.key_dim % self.heads:
            raise ValueError(f"key_dim {self.key_dim} is not divisible by heads {self.heads}; change one of them")
        if self.projection == "none" and self.key_dim != self.query_dim:
            raise ValueError(
                f"projection 'none' compares the query with the keys directly, but query_dim is {self.query_dim} and "
                f"key_dim {self.key_dim}; make them equal or use projection 'linear'"
            )
        return self

    @property
    def total_rank(self) -> int:
        """N*r: the rank of the mixed update, and of the plain LoRA that one analogy folds into."""
        return self.n_loras * self.rank


def count_parameters(config: BasisConfig, in_out: Iterable[tuple[int, int]]) -> int:
    """Trainable parameters of a basis over layers given as (in_features, out_features).

    Per layer N*r*(in + out) for A and B, N*d for the keys, d*D_q for the projection.
    """
    layers = list(in_out)
    router = config.n_loras * config.key_dim
    if config.projection == "linear":
        router += config.key_dim * config.query_dim
    return config.total_rank * sum(i + o for i, o in layers) + router * len(layers)
