"""A random basis on the tiny base, and a way to compare pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lorweb.basis import BasisConfig, add_basis, basis_layers, checkpoint
from lorweb.kontext.load import Base
from lorweb.kontext.metadata import BASIS_FILE, ModelMetadata, write_metadata
from tests.kontext_tiny import PixelEncoder, drawn_image

A, A2 = drawn_image(0), drawn_image(1)
CONFIG = BasisConfig(
    n_loras=3,
    rank=2,
    key_dim=4,
    query_dim=3 * PixelEncoder.dim,
    heads=1,
    activation="softmax",
    reduce="mean",
    projection="linear",
    query_mode="cat-aa'b",
)


INTERNAL = BasisConfig(
    n_loras=3,
    rank=2,
    key_dim=4,
    query_dim=None,
    heads=1,
    activation="softmax",
    reduce="mean",
    projection="linear",
    query_mode="caa'b",
    query_source="internal",
    pooling="avg",
)


def train(base: Base, config: BasisConfig = CONFIG) -> None:
    """A basis that does something: B is zero at its birth."""
    add_basis(base.transformer, config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in basis_layers(base.transformer).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * 0.3)


def save_model(base: Base, folder: Path) -> Path:
    """A model folder as the train stage writes it."""
    folder.mkdir()
    checkpoint.save(base.transformer, folder / BASIS_FILE, {})
    encoder = PixelEncoder()
    write_metadata(
        folder, ModelMetadata(str(base.folder), base.revision, encoder.name, encoder.revision, 32, 3, 1.5, {})
    )
    return folder


def same(one: Image.Image, two: Image.Image, by: int = 0) -> bool:
    return one.size == two.size and int(np.abs(np.asarray(one, dtype=int) - np.asarray(two, dtype=int)).max()) <= by
