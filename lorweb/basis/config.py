"""What defines a basis, and how many parameters it has."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lorweb.basis.internal import check_internal_mode
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
    query_dim: Positive | None  # D_q, width of the query before the projection P; None for internal queries
    heads: Positive  # keys and query are split into this many parts
    activation: Literal["softmax", "tanh"]  # of Eq. 4
    reduce: Literal["mean", "sum"]  # over heads; "sum" is clamped to [0, 1] (softmax) or [-1, 1] (tanh)
    projection: Literal["linear", "shared", "none"]  # P of Eq. 3: per layer, one for all layers, or the identity
    query_mode: str  # a row of lorweb.basis.query.MODES, or of lorweb.basis.internal.MODES
    query_source: Literal["external", "internal"] = "external"  # an image encoder, or the layer's own input
    pooling: Literal["avg", "max"] | None = None  # of the layer's input over tokens; internal queries only
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = BLOCK_LINEARS  # fnmatch patterns over module names

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.key_dim % self.heads:
            raise ValueError(f"key_dim {self.key_dim} is not divisible by heads {self.heads}; change one of them")
        if self.internal:
            self._fits_internal()
        else:
            self._fits_external()
        return self

    def _fits_external(self) -> None:
        mode_of(self.query_mode)
        if self.pooling is not None:
            raise ValueError(f"pooling '{self.pooling}' has no effect on external queries; leave it out")
        if self.query_dim is None:
            raise ValueError("query_dim is missing; give the width of the encoder's query (lorweb.basis.query_dim)")
        if self.projection == "none" and self.key_dim != self.query_dim:
            raise ValueError(
                f"projection 'none' compares the query with the keys directly, but query_dim is {self.query_dim} and "
                f"key_dim {self.key_dim}; make them equal or use projection 'linear'"
            )

    def _fits_internal(self) -> None:
        check_internal_mode(self.query_mode)
        if self.pooling is None:
            raise ValueError("internal queries are pooled over tokens; give pooling 'avg' or 'max'")
        if self.query_dim is not None:
            raise ValueError(
                f"query_dim is {self.query_dim}, but an internal query has its layer's own width; give query_dim None"
            )
        if self.projection == "shared":
            raise ValueError("a shared projection needs queries of one width, internal ones differ; use 'linear'")

    @property
    def internal(self) -> bool:
        """Queries come from the layers' own activations, so that every layer, step and token has its say."""
        return self.query_source == "internal"

    @property
    def total_rank(self) -> int:
        """N*r: the rank of the mixed update, and of the plain LoRA that one analogy folds into."""
        return self.n_loras * self.rank

    def query_width(self, in_features: int) -> int:
        """D_q of one layer: `query_dim`, or the layer's own width for internal queries."""
        return in_features if self.query_dim is None else self.query_dim


def count_parameters(config: BasisConfig, in_out: Iterable[tuple[int, int]]) -> int:
    """Trainable parameters of a basis over layers given as (in_features, out_features).

    Per layer N*r*(in + out) for A and B, N*d for the keys, d*D_q for the projection (once in all if it is shared).
    """
    layers = list(in_out)
    adapters = config.total_rank * sum(i + o for i, o in layers)
    projected = {"linear": layers, "shared": layers[:1], "none": []}[config.projection]
    projections = config.key_dim * sum(config.query_width(i) for i, _ in projected)
    return adapters + config.n_loras * config.key_dim * len(layers) + projections
