"""Models with internal queries, and grids to ask them with."""

from typing import Any

from torch import Tensor

from tests.basis.cases import INTERNAL, config, trained
from tests.tiny import grid_ids, tiny_inputs, tiny_transformer

SETTINGS = config(**INTERNAL)
ROWS, COLUMNS = 4, 6  # tokens of one grid: not square, so that rows and columns cannot be confused


def inputs(batch: int = 2) -> dict[str, Tensor]:
    """Of a noisy and a control grid."""
    return tiny_inputs(batch, 2 * ROWS * COLUMNS) | {"img_ids": grid_ids(ROWS, COLUMNS)}


def internal(**changes: Any) -> Any:
    """A transformer with an internal basis that has values."""
    model = tiny_transformer(0)
    trained(model, config(**{**INTERNAL, **changes}))
    return model
