"""External query modes: which views of an analogy the encoder sees, and how its features become the query.

Legend: B batch, F width of the encoder's features, Q width of the query.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor

View = Literal["a", "a2", "b", "top", "grid", "grid_blank"]
"""a, a2 (= a'), b: single images. Of the control grid [a, a'; b, b]: `top` is its upper half, `grid` all of it,
`grid_blank` the grid with its bottom-right quadrant set to zero (black)."""


class ImageEncoder(Protocol):
    """A frozen image encoder E of Eq. 3. `name` and `revision` identify its weights, `dim` is its feature width F."""

    name: str
    dim: int
    revision: str

    def __call__(self, images: list[Image.Image]) -> Tensor:
        """Features [B, dim] of B RGB images of any size, float32, not normalised."""
        ...


@dataclass(frozen=True)
class Mode:
    """A query mode: the views in the order of combination; `signs` sums them, None concatenates them."""

    views: tuple[View, ...]
    signs: tuple[int, ...] | None


MODES: Final[dict[str, Mode]] = {
    "cat-aa'b": Mode(("a", "a2", "b"), None),  # the paper's
    "ca'-ca": Mode(("a2", "a"), (1, -1)),
    "ca'-ca+cb": Mode(("a2", "a", "b"), (1, -1, 1)),
    "caa'": Mode(("top",), (1,)),
    "caa'b": Mode(("grid_blank",), (1,)),
    "caa'bb'": Mode(("grid",), (1,)),
    "aa'bb'": Mode(("grid",), (1,)),
}
PATCH_MODES: Final = ("paa'b", "paa'b3", "cat-paa'b", "cat-paa'b3")


def mode_of(name: str) -> Mode:
    """The row of the table. Raises ValueError with the nearest valid name, or why a patch mode cannot be had."""
    if name in MODES:
        return MODES[name]
    if name in PATCH_MODES:
        raise ValueError(
            f"query_mode '{name}' asks for patch tokens, whose flattened width fits no projection; "
            f"use one of {', '.join(MODES)}"
        )
    near = difflib.get_close_matches(name, MODES, n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown query_mode '{name}'; did you mean '{near}'? Known: {', '.join(MODES)}")


def views(mode: str) -> tuple[View, ...]:
    """Which views the encoder has to see. Raises ValueError for an unknown mode."""
    return mode_of(mode).views


def query_dim(mode: str, feature_dim: int) -> int:
    """Width Q of the query that `combine` makes of features of width `feature_dim`. Raises ValueError: unknown mode."""
    row = mode_of(mode)
    return feature_dim * len(row.views) if row.signs is None else feature_dim


def combine(mode: str, features: Mapping[str, Tensor]) -> Tensor:
    """The bracket of Eq. 3: features {view: [B, F]} -> query [B, Q].

    Views that the mode does not use are ignored.

    Raises:
        ValueError: unknown mode, a view is missing, or the features differ in shape or are not [B, F].
    """
    row = mode_of(mode)
    missing = [view for view in row.views if view not in features]
    if missing:
        raise ValueError(f"query_mode '{mode}' needs features of {missing}, got {sorted(features)}; encode its views")
    parts_BF = [features[view] for view in row.views]
    shapes = {view: tuple(features[view].shape) for view in row.views}
    if len(set(shapes.values())) != 1 or parts_BF[0].ndim != 2:
        raise ValueError(f"query_mode '{mode}' needs features of one shape [batch, width], got {shapes}")
    if row.signs is None:
        return torch.cat(parts_BF, dim=-1)
    query_BQ = parts_BF[0] * row.signs[0]
    for sign, part_BF in zip(row.signs[1:], parts_BF[1:], strict=True):
        query_BQ = query_BQ + sign * part_BF
    return query_BQ
