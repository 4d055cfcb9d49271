"""A random basis on the tiny base, and a way to compare pictures."""

import numpy as np
import torch
from PIL import Image

from lorweb.basis import BasisConfig, add_basis, basis_layers
from lorweb.kontext.load import Base
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


def train(base: Base) -> None:
    """A basis that does something: B is zero at its birth."""
    add_basis(base.transformer, CONFIG, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in basis_layers(base.transformer).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * 0.3)


def same(one: Image.Image, two: Image.Image, by: int = 0) -> bool:
    return one.size == two.size and int(np.abs(np.asarray(one, dtype=int) - np.asarray(two, dtype=int)).max()) <= by
