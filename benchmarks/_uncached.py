"""The tiny base with real pictures: encoded once as our stages do, or by frozen encoders inside of every step.

Legend: B batch rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from _training import ROOT, Scene, train_section
from grid_latents import analogies
from PIL import Image

from lorweb.basis.encoders import load_encoder
from lorweb.basis.query import ImageEncoder, combine, encode, query_dim, views
from lorweb.config import load_params
from lorweb.kontext.codec import encode_image
from lorweb.kontext.grid import compose, control_grid
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.model import TextEmbedding
from lorweb.training.dataset import Batch, Encoded, Triple
from lorweb.training.sampler import TrainPair
from lorweb.training.stored import QuadrantLatents
from lorweb.training.variants import basis_config


@dataclass(frozen=True)
class Pictures:
    """Data of the training loop that are encoded when they are asked for: all that `take_step` wants of `Encoded`.

    As published: target and control grid as whole pictures through the codec, a, a' and b through the encoder of the
    query, the instructions through both text encoders. The pictures are in memory, decoded.
    """

    base: Base
    encoder: ImageEncoder
    mode: str
    images: dict[str, tuple[Image.Image, Image.Image]]  # pair -> before and after
    views: int = 0  # random ones besides the whole picture: none

    def grid_batch(self, triples: Sequence[Triple]) -> Batch:
        """What `Encoded.grid_batch` gives, computed now."""
        quadrants = [(*self.images[t.exemplar], *self.images[t.query]) for t in triples]
        columns = dict(zip(("a", "a2", "b"), zip(*quadrants, strict=True), strict=False))
        features = {view: encode(self.encoder, self.mode, list(columns[view])) for view in views(self.mode)}
        encode_grids = partial(encode_image, self.base)
        return Batch(
            encode_grids([compose(*four) for four in quadrants]).float(),
            encode_grids([control_grid(*four[:3]) for four in quadrants]).float(),
            combine(self.mode, features),
            self.base.text([t.instruction for t in triples]),
            [f"{t.exemplar}>{t.query}" for t in triples],
        )

    def encoded(self) -> Encoded:
        """The same data as our encode stage leaves them: each image once, each text once, in float32."""
        images = [image for pair in self.images.values() for image in pair]
        texts = {text: self.base.text([text]) for text in ("", *(f"do {pair}" for pair in self.images))}
        return Encoded(
            QuadrantLatents(torch.cat([encode_image(self.base, [image]) for image in images]).float().cpu()),
            encode(self.encoder, self.mode, images),
            {pair: (2 * row, 2 * row + 1) for row, pair in enumerate(self.images)},
            {},
            {text: TextEmbedding(t.prompt_BTE.float().cpu(), t.pooled_BP.float().cpu()) for text, t in texts.items()},
            {},
            tuple(map(str, range(len(images)))),
            {"params": {"query_mode": self.mode}},
        )


def tiny(device: torch.device, count: int, **changes: object) -> tuple[Scene, Pictures]:
    """The packaged base at its default (N = 16, r = 2, batch 16, 64 px), on `count` tasks of two pairs each."""
    params = load_params(ROOT / "params.yaml")
    section = train_section(**changes)
    base = load_base("tiny", getattr(torch, section.precision), device)
    encoder = load_encoder(params.encode.encoder)
    images = {}
    for task, (a, a2, b, b2) in enumerate(analogies(params.encode.quadrant, count)):
        images |= {f"{task}-0": (a, a2), f"{task}-1": (b, b2)}
    pictures = Pictures(base, encoder, params.encode.query_mode, images)
    pairs = [TrainPair(f"task{name[:-2]}", name, name, f"do {name}") for name in images]
    config = basis_config(section.basis, query_dim(pictures.mode, encoder.dim), pictures.mode)
    return Scene(base.transformer, config, pictures.encoded(), pairs, section, torch.device(device)), pictures
