"""External query modes: which views of an analogy the encoder sees, and how its features become the query.

Legend: B batch, F width of the encoder's features, Q width of the query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from lorweb.config_errors import unknown_name

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


@runtime_checkable
class PatchEncoder(Protocol):
    """An image encoder that is a transformer over patches, of width `patch_dim`."""

    patch_dim: int

    def patches(self, images: list[Image.Image], levels: tuple[int, ...]) -> Tensor:
        """Mean over the patch tokens of some hidden states (-1 = the last layer's output): [B, patch_dim], float32."""
        ...


@dataclass(frozen=True)
class Mode:
    """A query mode: the views in the order of combination; `signs` sums them, None concatenates them.

    `levels`: () takes the encoder's embedding; otherwise the mean over the patch tokens of these hidden states.
    """

    views: tuple[View, ...]
    signs: tuple[int, ...] | None
    levels: tuple[int, ...] = ()


MODES: Final[dict[str, Mode]] = {
    "cat-aa'b": Mode(("a", "a2", "b"), None),  # the paper's
    "ca'-ca": Mode(("a2", "a"), (1, -1)),
    "ca'-ca+cb": Mode(("a2", "a", "b"), (1, -1, 1)),
    "caa'": Mode(("top",), (1,)),
    "caa'b": Mode(("grid_blank",), (1,)),
    "caa'bb'": Mode(("grid",), (1,)),
    "aa'bb'": Mode(("grid",), (1,)),
    # Flattened patch tokens would be 257 times too wide for their projection; their mean has just its width.
    "paa'b": Mode(("grid_blank",), (1,), (-1,)),
    "paa'b3": Mode(("grid_blank",), (1,), (-16, -8, -1)),
    "cat-paa'b": Mode(("a", "a2", "b"), None, (-1,)),
    "cat-paa'b3": Mode(("a", "a2", "b"), None, (-16, -8, -1)),
}


def mode_of(name: str) -> Mode:
    """The row of the table. Raises ValueError with the nearest valid name."""
    if name in MODES:
        return MODES[name]
    raise ValueError(unknown_name("query_mode", name, MODES))


def views(mode: str) -> tuple[View, ...]:
    """Which views the encoder has to see. Raises ValueError for an unknown mode."""
    return mode_of(mode).views


def sees_grid(mode: str) -> bool:
    """Whether the encoder sees composed views, so that features cannot be kept per image. Raises ValueError."""
    return not {"a", "a2", "b"}.issuperset(views(mode))


def feature_dim(encoder: ImageEncoder, mode: str) -> int:
    """Width F of what `encode` gives. Raises ValueError for a patch mode and an encoder without patches."""
    return _patch_encoder(encoder, mode).patch_dim if mode_of(mode).levels else encoder.dim


def encode(encoder: ImageEncoder, mode: str, images: list[Image.Image]) -> Tensor:
    """E of Eq. 3 as the mode wants it: features [B, F], float32, of B RGB images (whole views, see `views`).

    Raises:
        ValueError: unknown mode, or a patch mode and an encoder without patches.
    """
    levels = mode_of(mode).levels
    return _patch_encoder(encoder, mode).patches(images, levels) if levels else encoder(images)


def _patch_encoder(encoder: ImageEncoder, mode: str) -> PatchEncoder:
    if not isinstance(encoder, PatchEncoder):
        whole = ", ".join(name for name, row in MODES.items() if not row.levels)
        raise ValueError(
            f"query_mode '{mode}' needs patch tokens, which encoder {encoder.name} does not have; "
            f"use a clip: or siglip2: encoder, or one of {whole}"
        )
    return encoder


def query_dim(mode: str, feature_dim: int) -> int:
    """Width Q of the query that `combine` makes of features of width `feature_dim`.

    Raises:
        ValueError: unknown mode.
    """
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
