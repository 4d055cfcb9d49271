"""Heads over CLIP's image embedding, as LAION's predictors of what people find beautiful.

Legend: P pairs, D width of the embedding, N outputs of a layer.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from lorweb.basis.vision import PREPROCESSING
from lorweb.data.manifest import file_sha256
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Array, Known, PairImages, Scored, ScorerFacts
from lorweb.data.scorers.clip import image_tower
from lorweb.data.scorers.entries import AestheticConfig
from lorweb.data.scorers.features import both_sides
from lorweb.data.scorers.folders import device_for, model_at, weights_file
from lorweb.data.scorers.sides import unit
from lorweb.kontext.files import base_revision
from lorweb.records import stable_id

VERSION: Final = 1  # goes up when the same head would give other scores
HEAD_KEYS: Final = ("aesthetic", "aesthetic_before")
HEAD: Final = "a linear head (weight, bias) or layers (layers.0.weight, layers.0.bias, ...) over CLIP's embedding"
_LAYER: Final = re.compile(r"(layers\.\d+)?")


class AestheticScorer(Known):
    """`aesthetic` of a' and `aesthetic_before` of a, in the units of the head (1..10 for LAION's)."""

    def __init__(self, cfg: AestheticConfig, facts: ScorerFacts) -> None:
        super().__init__(facts)
        self._device = device_for(cfg.pool.gpus)
        self._images = image_tower("aesthetic", model_at("aesthetic", cfg.model), self._device)
        self._layers = read_head(weights_file("aesthetic", cfg.head, HEAD))

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair. Raises ValueError where the head is for another embedding."""
        if not pairs:
            return []
        before_P, after_P = (self._graded(unit(x_PD)) for x_PD in both_sides(self._images, pairs, self._device))
        rows = zip(after_P, before_P, strict=True)
        return [Scored(dict(zip(HEAD_KEYS, map(float, row), strict=True))) for row in rows]

    def _graded(self, x_PD: Array) -> Array:
        wanted = self._layers[0][0].shape[1]
        if x_PD.shape[1] != wanted:
            raise ValueError(f"the head takes embeddings of {wanted}, but CLIP gives {x_PD.shape[1]}; use its own CLIP")
        x = x_PD.astype(np.float64)
        for weight_ND, bias_N in self._layers:
            x = np.stack([weight_ND @ row + bias_N for row in x])  # a product per row: the batch rounds nothing
        return np.asarray(x[:, 0], dtype=np.float32)


def read_head(file: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers (weight [N, D], bias [N]) of a head, applied one after another with nothing between them.

    Keys: `weight`, `bias`; or `layers.<i>.weight`, `layers.<i>.bias` in the order of i, as LAION's predictor has them
    (its dropouts have no weights, and it has no activations). The last layer has one output.

    Raises:
        ValueError: other keys, or shapes that do not follow each other.
    """
    from safetensors.numpy import load_file

    tensors = load_file(file)
    names = sorted({key.rpartition(".")[0] for key in tensors}, key=lambda name: (len(name), name))  # layers.9 < .10
    whole = {f"{name}.{part}".lstrip(".") for name in names for part in ("weight", "bias")}
    if not names or whole != set(tensors) or not all(_LAYER.fullmatch(name) for name in names):
        raise ValueError(f"{file} holds {', '.join(sorted(tensors)[:6]) or 'nothing'}; it must hold {HEAD}")
    layers = [tuple(tensors[f"{n}.{p}".lstrip(".")].astype(np.float64) for p in ("weight", "bias")) for n in names]
    width = layers[0][0].shape[1] if layers[0][0].ndim == 2 else -1
    for name, (weight, bias) in zip(names, layers, strict=True):
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{file}: layer '{name}' has shapes {weight.shape} and {bias.shape}; expected [N, {width}] and [N]"
            )
        width = weight.shape[0]
    if width != 1:
        raise ValueError(f"{file}: the last layer gives {width} numbers; a head gives one")
    return [(weight, bias) for weight, bias in layers]


def describe_aesthetic(cfg: AestheticConfig) -> ScorerFacts:
    """Facts of a head and its CLIP. Raises FileNotFoundError or ValueError where one is not there or does not fit."""
    head = weights_file("aesthetic", cfg.head, HEAD)
    read_head(head)
    revision = stable_id(VERSION, PREPROCESSING, base_revision(model_at("aesthetic", cfg.model)), file_sha256(head))
    return ScorerFacts("aesthetic", revision, HEAD_KEYS)
