"""The encoded data set in memory, and grids built from it by the functions that `apply` uses. No encoder runs here.

Legend: M images, B batch, C latent channels, h w latent cells of one quadrant, H W of the grid (2h, 2w), D encoder
features, Q query width. Latents and features stay float16 in memory and become float32 in a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load
from torch import Tensor

from lorweb.basis.query import combine, query_dim, sees_grid, views
from lorweb.data.manifest import read_manifest
from lorweb.data.shards import read_table
from lorweb.kontext.grid import compose_latents, control_latents
from lorweb.kontext.model import TextEmbedding
from lorweb.records import ENCODED_GRID, ENCODED_IMAGE, ENCODED_PAIR, ENCODED_TEXT, TRAIN_PAIR
from lorweb.training.sampler import TrainPair


@dataclass(frozen=True)
class Triple:
    """An analogy by pair ids: `exemplar` gives a and a', `query` gives b and the true b'; all four in one view."""

    exemplar: str
    query: str
    instruction: str
    view: int = 0  # the whole images; others only of pairs that training draws from


@dataclass(frozen=True)
class Batch:
    """Inputs of one step, float32."""

    x0_BCHW: Tensor  # target grid [a, a'; b, b']
    y_BCHW: Tensor  # control grid [a, a'; b, b]
    query_BQ: Tensor
    text: TextEmbedding
    ids: list[str]  # "exemplar>query", what messages call a row

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        text = TextEmbedding(self.text.prompt_BTE.to(device), self.text.pooled_BP.to(device))
        return Batch(self.x0_BCHW.to(device), self.y_BCHW.to(device), self.query_BQ.to(device), text, self.ids)


@dataclass(frozen=True)
class Encoded:
    """Latents and features of every image, embeddings of every instruction; build it with `Encoded.load`."""

    latents_MChw: Tensor
    features_MD: Tensor
    pairs: dict[str, tuple[int, int]]  # pair id -> rows of its before and after image
    viewed: dict[tuple[str, int], tuple[int, int]]  # the same of (pair id, view), views from 1 on
    texts: dict[str, TextEmbedding]  # one row each
    grids: dict[str, Tensor]  # `grid_key` -> features [D] of the mode's view; {} for modes that see single images
    images: tuple[str, ...]  # names of the M images
    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "Encoded":
        """Read what the encode stage wrote.

        Raises:
            FileNotFoundError: the folder holds no encoded data.
            ValueError: a pair names an image that is not there.
        """
        images = _tensors(read_table(folder, ENCODED_IMAGE))
        rows = {name: row for row, name in enumerate(images)}
        pairs: dict[str, tuple[int, int]] = {}
        viewed: dict[tuple[str, int], tuple[int, int]] = {}
        manifest = read_manifest(folder)
        for row in pq.read_table(folder / "pairs.parquet", schema=ENCODED_PAIR).to_pylist():
            if row["before"] not in rows or row["after"] not in rows:
                raise ValueError(f"pair {row['pair']} in {folder} names an image that is not there; encode again")
            pairs[row["pair"]] = rows[row["before"]], rows[row["after"]]
            for view in range(1, 1 + _views(manifest)):
                before, after = (view_key(row[side], view) for side in ("before", "after"))
                if before in rows and after in rows:
                    viewed[row["pair"], view] = rows[before], rows[after]
        texts = {
            text: TextEmbedding(found["prompt_embeds"].float()[None], found["pooled"].float()[None])
            for text, found in _tensors(read_table(folder / "text", ENCODED_TEXT)).items()
        }
        grids = _tensors(read_table(folder / "grids", ENCODED_GRID)) if (folder / "grids").is_dir() else {}
        return cls(
            torch.stack([found["latents"] for found in images.values()]),
            torch.stack([found["features"] for found in images.values()]),
            pairs,
            viewed,
            texts,
            {key: found["features"] for key, found in grids.items()},
            tuple(images),
            manifest,
        )

    @property
    def query_mode(self) -> str:
        """How features become a query; the encode stage decided it."""
        return str(self.manifest["params"]["query_mode"])

    def latents(self, pair: str) -> tuple[Tensor, Tensor]:
        """Before and after of a pair, [C, h, w] float32."""
        before, after = self.pairs[pair]
        return self.latents_MChw[before].float(), self.latents_MChw[after].float()

    def features(self, pair: str) -> tuple[Tensor, Tensor]:
        """Encoder features of before and after, [D] float32."""
        before, after = self.pairs[pair]
        return self.features_MD[before].float(), self.features_MD[after].float()

    def text(self, instruction: str) -> TextEmbedding:
        """Embedding of one instruction or of the empty prompt ""."""
        return self.texts[instruction]

    def grid_batch(self, triples: Sequence[Triple]) -> Batch:
        """Grids, queries and text of some analogies, in their order."""
        rows = torch.tensor([self._rows(t.exemplar, t.view) + self._rows(t.query, t.view) for t in triples])
        a, a2, b, b2 = (self.latents_MChw[rows[:, i]].float() for i in range(4))
        texts = [self.texts[t.instruction] for t in triples]
        return Batch(
            compose_latents(a, a2, b, b2),
            control_latents(a, a2, b),
            self.queries(rows[:, :3]),
            TextEmbedding(torch.cat([t.prompt_BTE for t in texts]), torch.cat([t.pooled_BP for t in texts])),
            [f"{t.exemplar}>{t.query}" for t in triples],
        )

    def queries(self, rows_B3: Tensor) -> Tensor:
        """The bracket of Eq. 3, [B, Q], of analogies given as rows of a, a' and b among the images.

        Raises:
            ValueError: the mode looks at the grid, and the encode stage has not seen this one.
        """
        seen = views(self.query_mode)
        if sees_grid(self.query_mode):
            features_BD = torch.stack([self._grid(*row) for row in rows_B3.tolist()])
            return combine(self.query_mode, dict.fromkeys(seen, features_BD))
        columns = {"a": 0, "a2": 1, "b": 2}
        return combine(self.query_mode, {view: self.features_MD[rows_B3[:, columns[view]]].float() for view in seen})

    def _rows(self, pair: str, view: int) -> tuple[int, int]:
        return self.viewed[pair, view] if view else self.pairs[pair]

    def _grid(self, a: int, a2: int, b: int) -> Tensor:
        key = grid_key(self.images[a], self.images[a2], self.images[b])
        if key not in self.grids:
            raise ValueError(
                f"query_mode '{self.query_mode}' looks at grids, and the grid of images {key} was not encoded; "
                "run the encode stage again"
            )
        return self.grids[key].float()

    @property
    def query_dim(self) -> int:
        """Q, derived from the features and the query mode."""
        return query_dim(self.query_mode, self.features_MD.shape[1])

    @property
    def pool(self) -> int:
        """How many training analogies were encoded as grids; 0: the mode needs none, all may be drawn."""
        return int(self.manifest["params"].get("grid_analogies", 0))

    @property
    def views(self) -> int:
        """How many random views each training image has besides the whole one."""
        return _views(self.manifest)


def grid_key(a: str, a2: str, b: str) -> str:
    """Name of a grid in records.ENCODED_GRID, from the names of its images."""
    return f"{a},{a2},{b}"


def view_key(image: str, view: int) -> str:
    """Name of a view in records.ENCODED_IMAGE; view 0 is the whole image, and has the image's own name."""
    return f"{image}~{view}" if view else image


def load_train_pairs(analogies: Path) -> list[TrainPair]:
    """Rows of records.TRAIN_PAIR below data/analogies."""
    rows = read_table(analogies / "train", TRAIN_PAIR).to_pylist()
    return [TrainPair(*(row[name] for name in ("task", "subject", "pair", "instruction", "weight"))) for row in rows]


def _views(manifest: dict[str, Any]) -> int:
    return int(manifest["params"].get("views", {}).get("count", 0))


def _tensors(table: pa.Table) -> dict[str, dict[str, Tensor]]:
    """First column -> tensors of the safetensors bytes in the second, in the order of the keys."""
    keys, blobs = table.column(0).to_pylist(), table.column(1).to_pylist()
    return {key: load(blob) for key, blob in sorted(zip(keys, blobs, strict=True))}
