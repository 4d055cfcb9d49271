"""What the encode stage left in data/encoded, read: tensors by name, images of pairs, and grids of images by key.

Legend: M images, B batch, C latent channels, h w latent cells of one quadrant, H W of the grid (2h, 2w).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load
from torch import Tensor

from lorweb.kontext.grid import compose_latents, control_latents
from lorweb.records import ENCODED_PAIR
from lorweb.storage.places import local


def grid_key(*images: str) -> str:
    """Name of a grid in records.ENCODED_GRID, from the names of its images: a, a', b of a control, b' of a target."""
    return ",".join(images)


def view_key(image: str, view: int) -> str:
    """Name of a view in records.ENCODED_IMAGE; view 0 is the whole image, and has the image's own name."""
    return f"{image}~{view}" if view else image


def read_tensors(table: pa.Table) -> dict[str, dict[str, Tensor]]:
    """First column -> tensors of the safetensors bytes in the second, in the order of the keys."""
    keys, blobs = table.column(0).to_pylist(), table.column(1).to_pylist()
    return {key: load(blob) for key, blob in sorted(zip(keys, blobs, strict=True))}


def view_count(manifest: Mapping[str, Any]) -> int:
    """How many random views were encoded of each training image besides the whole one."""
    return int(manifest["params"].get("views", {}).get("count", 0))


@dataclass(frozen=True)
class PairRows:
    """Rows of the before and after image of every pair: of the whole images, and of (pair, view) from view 1 on."""

    whole: dict[str, tuple[int, int]]
    viewed: dict[tuple[str, int], tuple[int, int]]

    @classmethod
    def read(cls, folder: Path, rows: Mapping[str, int], views: int) -> "PairRows":
        """`rows`: row of each image by name. Raises ValueError if a pair names an image that is not there."""
        found = cls({}, {})
        for row in pq.read_table(local(folder / "pairs.parquet"), schema=ENCODED_PAIR).to_pylist():
            if row["before"] not in rows or row["after"] not in rows:
                raise ValueError(f"pair {row['pair']} in {folder} names an image that is not there; encode again")
            found.whole[row["pair"]] = rows[row["before"]], rows[row["after"]]
            for view in range(1, 1 + views):
                before, after = (view_key(row[side], view) for side in ("before", "after"))
                if before in rows and after in rows:
                    found.viewed[row["pair"], view] = rows[before], rows[after]
        return found


@dataclass(frozen=True)
class QuadrantLatents:
    """Grids composed of latents that were encoded image by image."""

    images_MChw: Tensor

    def control(self, rows_B3: Tensor) -> Tensor:
        """Control grids [B, C, H, W], float32, of rows of a, a' and b."""
        return control_latents(*(self.images_MChw[rows_B3[:, i]].float() for i in range(3)))

    def target(self, rows_B4: Tensor) -> Tensor:
        """Target grids [B, C, H, W], float32, of rows of a, a', b and b'."""
        return compose_latents(*(self.images_MChw[rows_B4[:, i]].float() for i in range(4)))


@dataclass(frozen=True)
class GridLatents:
    """Grids that were encoded as whole pictures: a finite number of them, by `grid_key`."""

    grids: dict[str, Tensor]  # [C, H, W]
    images: tuple[str, ...]  # names of the M images

    def control(self, rows_B3: Tensor) -> Tensor:
        """Control grids [B, C, H, W], float32, of rows of a, a' and b. Raises ValueError for one not encoded."""
        return self._stack(rows_B3)

    def target(self, rows_B4: Tensor) -> Tensor:
        """Target grids [B, C, H, W], float32, of rows of a, a', b and b'. Raises ValueError for one not encoded."""
        return self._stack(rows_B4)

    def _stack(self, rows: Tensor) -> Tensor:
        keys = [grid_key(*(self.images[row] for row in line)) for line in rows.tolist()]
        return torch.stack([at_key(self.grids, key, "latents are 'grid'") for key in keys]).float()


def at_key(grids: Mapping[str, Tensor], key: str, why: str) -> Tensor:
    """What is stored of one grid. Raises ValueError where it was not encoded; `why` says what asks for it."""
    if key not in grids:
        raise ValueError(f"{why}, and the grid of images {key} was not encoded; run the encode stage again")
    return grids[key]
