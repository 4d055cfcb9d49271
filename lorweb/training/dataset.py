"""The encoded data set in memory, and grids built from it by the functions that `apply` uses. No encoder runs here.

Legend: M images, B batch, C latent channels, H W latent cells of the grid, D encoder features, Q query width. Latents
and features keep the dtype they were stored in and become float32 in a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorweb.basis.query import combine, query_dim, sees_grid, views
from lorweb.data.manifest import read_manifest
from lorweb.data.shards import read_table
from lorweb.kontext.grid import Latents
from lorweb.kontext.model import TextEmbedding
from lorweb.records import ENCODED_GRID, ENCODED_IMAGE, ENCODED_TEXT, TRAIN_PAIR
from lorweb.storage.places import local
from lorweb.training.sampler import TrainPair
from lorweb.training.stored import (
    GridLatents,
    PairRows,
    QuadrantLatents,
    at_key,
    grid_key,
    read_tensors,
    view_count,
)


@dataclass(frozen=True)
class Triple:
    """An analogy by pair ids: `exemplar` gives a and a', `query` gives b and the true b'; all four in one view.

    `unedited`: a stands in the place of a' as well, in both grids and in the query, so that the exemplar shows nothing.
    """

    exemplar: str
    query: str
    instruction: str
    view: int = 0  # the whole images; others only of pairs that training draws from
    unedited: bool = False


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

    stored: QuadrantLatents | GridLatents
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
        images = read_tensors(read_table(folder, ENCODED_IMAGE))
        manifest = read_manifest(folder)
        pairs = PairRows.read(folder, {name: row for row, name in enumerate(images)}, view_count(manifest))
        texts = {
            text: TextEmbedding(found["prompt_embeds"].float()[None], found["pooled"].float()[None])
            for text, found in read_tensors(read_table(folder / "text", ENCODED_TEXT)).items()
        }
        grids = read_tensors(read_table(folder / "grids", ENCODED_GRID)) if local(folder / "grids").is_dir() else {}
        stored: QuadrantLatents | GridLatents
        if manifest["params"].get("latents", "quadrant") == "grid":
            stored = GridLatents({key: found["latents"] for key, found in grids.items()}, tuple(images))
        else:
            stored = QuadrantLatents(torch.stack([found["latents"] for found in images.values()]))
        return cls(
            stored,
            torch.stack([found["features"] for found in images.values()]),
            pairs.whole,
            pairs.viewed,
            texts,
            {key: found["features"] for key, found in grids.items() if "features" in found},
            tuple(images),
            manifest,
        )

    @property
    def query_mode(self) -> str:
        """How features become a query; the encode stage decided it."""
        return str(self.manifest["params"]["query_mode"])

    @property
    def latents_MChw(self) -> Tensor:
        """Latents of every image, as stored. Raises ValueError where whole grids were encoded."""
        if isinstance(self.stored, GridLatents):
            raise ValueError("whole grids were encoded, and no latents of single images; ask for grids")
        return self.stored.images_MChw

    def latents(self, pair: str) -> tuple[Tensor, Tensor]:
        """Before and after of a pair, [C, h, w] float32. Raises ValueError where whole grids were encoded."""
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
        """Grids, queries and text of some analogies, in their order. Raises ValueError for a grid not encoded."""
        rows = torch.tensor([self._rows_of(t) for t in triples])
        texts = [self.texts[t.instruction] for t in triples]
        return Batch(
            self.stored.target(rows),
            self.stored.control(rows[:, :3]),
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

    def _rows_of(self, triple: Triple) -> tuple[int, int, int, int]:
        """Rows of a, a', b and b'."""
        (a, a2), (b, b2) = (
            self.viewed[pair, triple.view] if triple.view else self.pairs[pair]
            for pair in (triple.exemplar, triple.query)
        )
        return a, a if triple.unedited else a2, b, b2

    def _grid(self, a: int, a2: int, b: int) -> Tensor:
        key = grid_key(self.images[a], self.images[a2], self.images[b])
        return at_key(self.grids, key, f"query_mode '{self.query_mode}' looks at grids").float()

    @property
    def query_dim(self) -> int:
        """Q, derived from the features and the query mode."""
        return query_dim(self.query_mode, self.features_MD.shape[1])

    @property
    def pool(self) -> int:
        """How many training analogies were encoded as grids; 0: none has to be, all may be drawn."""
        return int(self.manifest["params"].get("grid_analogies", 0))

    @property
    def views(self) -> int:
        """How many random views each training image has besides the whole one."""
        return view_count(self.manifest)

    @property
    def composition(self) -> Latents:
        """How its grids became latents, as `CanvasRule.latents`."""
        return "grid" if isinstance(self.stored, GridLatents) else "quadrant"


def load_train_pairs(analogies: Path) -> list[TrainPair]:
    """Rows of records.TRAIN_PAIR below data/analogies."""
    rows = read_table(analogies / "train", TRAIN_PAIR).to_pylist()
    return [TrainPair(*(row[name] for name in ("task", "subject", "pair", "instruction", "weight"))) for row in rows]
