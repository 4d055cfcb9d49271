"""The method: a basis of LoRAs per layer, mixed by an analogy (LoRWeB, arXiv:2602.15727)."""

from lorweb.basis.config import BLOCK_LINEARS, BasisConfig, count_parameters
from lorweb.basis.context import analogy, mix
from lorweb.basis.inject import (
    BasisReport,
    add_basis,
    basis_layers,
    has_mix,
    remove_basis,
    router_of,
    target_sizes,
    trainable,
)
from lorweb.basis.query import ImageEncoder, combine, encode, feature_dim, query_dim, views

__all__ = [
    "BLOCK_LINEARS",
    "BasisConfig",
    "BasisReport",
    "ImageEncoder",
    "add_basis",
    "analogy",
    "basis_layers",
    "combine",
    "count_parameters",
    "encode",
    "feature_dim",
    "has_mix",
    "mix",
    "query_dim",
    "remove_basis",
    "router_of",
    "target_sizes",
    "trainable",
    "views",
]
