"""Scores by encoders: how far apart the features of a and a' are, and features for directions and duplicates.

Legend: I distinct images, P pairs, D features.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lorweb.basis.encoders import PACKAGED, PackagedEncoder, load_encoder
from lorweb.basis.vision import PREPROCESSING, READERS
from lorweb.config_errors import unknown_name
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Array, Known, PairImages, Scored, ScorerFacts
from lorweb.data.scorers.entries import DinoConfig, FeaturesConfig
from lorweb.data.scorers.folders import device_for, in_turn, loaded, model_at, pretrained
from lorweb.data.scorers.sides import DistinctImages, pair_vectors
from lorweb.data.scores import cosine
from lorweb.kontext.files import base_revision
from lorweb.records import stable_id

VERSION: Final = 1  # goes up when the same features would give other scores
Encoder = Callable[[list[Image.Image]], Any]  # images -> [I, D]


class SimilarityScorer(Known):
    """One score, the cosine of the features of a and a', -1..1; and the features."""

    def __init__(self, facts: ScorerFacts, encoder: Encoder, device: str) -> None:
        super().__init__(facts)
        self._encoder, self._device = encoder, device

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair; an image that several pairs share is encoded once."""
        if not pairs:
            return []
        before_PD, after_PD = both_sides(self._encoder, pairs, self._device)
        rows = zip(cosine(before_PD, after_PD), before_PD, after_PD, strict=True)
        (key,), (name,) = self.facts.keys, self.facts.encoders
        return [Scored({key: float(near)}, pair_vectors(name, a_D, a2_D)) for near, a_D, a2_D in rows]


def both_sides(encoder: Encoder, pairs: Sequence[PairImages], device: str) -> tuple[Array, Array]:
    """Features [P, D] of the images before and after; every distinct image goes through the encoder once."""
    distinct = DistinctImages.of(pairs)
    features_ID = in_turn(encoder, distinct.images, device)
    return features_ID[distinct.before], features_ID[distinct.after]


def similarity_facts(scorer: str, encoder: str, key: str, revision: str) -> ScorerFacts:
    """Facts of a scorer of one similarity."""
    return ScorerFacts(scorer, stable_id(VERSION, revision), (key,), (encoder,), (encoder,))


def describe_features(cfg: FeaturesConfig) -> ScorerFacts:
    """Facts of an encoder of lorweb.basis.encoders. Raises FileNotFoundError or ValueError where it is not there."""
    if cfg.encoder == PACKAGED:
        revision = PackagedEncoder().revision
    else:
        kind, folder = _encoder_folder(cfg)
        revision = f"{kind}|{base_revision(folder)}|{PREPROCESSING}"
    return similarity_facts(f"features_{cfg.name}", cfg.name, f"similarity.{cfg.name}", revision)


def build_features(cfg: FeaturesConfig, facts: ScorerFacts) -> SimilarityScorer:
    """The loaded encoder. Raises as `describe_features` does."""
    device = device_for(cfg.pool.gpus)
    if cfg.encoder == PACKAGED:
        return SimilarityScorer(facts, load_encoder(PACKAGED), "cpu")
    kind, folder = _encoder_folder(cfg)
    what = f"the encoder '{kind}'"
    return SimilarityScorer(
        facts, loaded(facts.name, folder, what, lambda: load_encoder(f"{kind}:{folder}", device)), device
    )


def _encoder_folder(cfg: FeaturesConfig) -> tuple[str, Path]:
    kind, _, folder = cfg.encoder.partition(":")
    if kind not in READERS or not folder:
        known = [PACKAGED, *(f"{kind}:FOLDER" for kind in READERS)]
        raise ValueError(f"scorer 'features_{cfg.name}': {unknown_name('encoder', cfg.encoder, known)}")
    return kind, model_at(f"features_{cfg.name}", folder)


def describe_dino(cfg: DinoConfig) -> ScorerFacts:
    """Facts of a DINOv2 folder. Raises FileNotFoundError or ValueError where it is not there."""
    return similarity_facts("dino", "dino", "dino_similarity", base_revision(model_at("dino", cfg.model)))


def build_dino(cfg: DinoConfig, facts: ScorerFacts) -> SimilarityScorer:
    """DINOv2 in a scorer. Raises as `dino_encoder`."""
    device = device_for(cfg.pool.gpus)
    return SimilarityScorer(facts, dino_encoder(model_at("dino", cfg.model), device), device)


def dino_encoder(folder: Path, device: str) -> Encoder:
    """DINOv2 by transformers: the feature is the class token after the last norm. Raises ValueError: another model."""
    from transformers import AutoImageProcessor, AutoModel

    def load() -> tuple[Any, Any]:
        return pretrained(AutoModel, folder), AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, backend="pil"
        )

    model, processor = loaded("dino", folder, "a vision tower", load)
    model = model.to(device)

    def encode(images: list[Image.Image]) -> Any:
        output = model(**processor(images=images, return_tensors="pt").to(device))
        if getattr(output, "pooler_output", None) is None:
            raise ValueError(f"scorer 'dino': {folder} gives no pooled output; give the folder of a DINOv2 model")
        return output.pooler_output

    return encode
