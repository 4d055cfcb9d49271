"""CLIP scores of pairs, as InstructPix2Pix filters by them.

Legend: P pairs, I distinct texts, D width of the shared embedding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lorweb.basis.encoders import load_encoder
from lorweb.basis.vision import PREPROCESSING
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Array, Known, PairImages, Scored, ScorerFacts
from lorweb.data.scorers.entries import ClipConfig
from lorweb.data.scorers.features import Encoder, both_sides
from lorweb.data.scorers.folders import device_for, loaded, model_at, pretrained
from lorweb.data.scorers.sides import pair_vectors, unit
from lorweb.data.scores import cosine
from lorweb.kontext.files import base_revision
from lorweb.records import stable_id

VERSION: Final = 1  # goes up when the same model would give other scores
KEYS: Final = ("clip_image", "clip_text_before", "clip_text", "clip_direction")


def described(cfg: ClipConfig, pair: PairImages) -> tuple[str, str]:
    """What a and a' show, in words. The caption of a source without one is `blank`; a' has no caption of its own."""
    caption = " ".join(pair.caption.split()) or cfg.blank
    before, after = (
        text.replace("{caption}", caption).replace("{instruction}", " ".join(pair.instruction.split()))
        for text in (cfg.before, cfg.after)
    )
    return before, after


class ClipScorer(Known):
    """All scores are cosines, -1..1, of embeddings of unit length:

    - `clip_image`: a and a'
    - `clip_text_before`: a and what it shows; `clip_text`: a' and what it shows
    - `clip_direction`: change of the images, E(a') - E(a), and change of the words; 0 where either is none
    """

    def __init__(self, cfg: ClipConfig, facts: ScorerFacts) -> None:
        super().__init__(facts)
        self._cfg, self._device = cfg, device_for(cfg.pool.gpus)
        folder = model_at("clip", cfg.model)
        self._images = image_tower("clip", folder, self._device)
        self._text, self._tokenizer = loaded("clip", folder, "CLIP with its tokenizer", lambda: _text_tower(folder))
        self._text = self._text.to(self._device)

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair; every distinct image and text is encoded once."""
        if not pairs:
            return []
        before_PD, after_PD = (unit(x_PD) for x_PD in both_sides(self._images, pairs, self._device))
        said = [described(self._cfg, pair) for pair in pairs]
        told_PD, asked_PD = (self._embedded([text[side] for text in said]) for side in (0, 1))
        columns = (
            cosine(before_PD, after_PD),
            cosine(before_PD, told_PD),
            cosine(after_PD, asked_PD),
            cosine(after_PD - before_PD, asked_PD - told_PD),
        )
        return [
            Scored(dict(zip(KEYS, map(float, row), strict=True)), pair_vectors("clip", before_PD[i], after_PD[i]))
            for i, row in enumerate(zip(*columns, strict=True))
        ]

    def _embedded(self, texts: Sequence[str]) -> Array:
        """[P, D] of unit length; a text is cut where the model's context ends."""
        distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        rows_ID = np.concatenate([self._embedding(text) for text in distinct])
        return unit(rows_ID)[[distinct[text] for text in texts]]

    def _embedding(self, text: str) -> Array:
        most = int(self._text.config.max_position_embeddings)
        tokens = self._tokenizer(text, truncation=True, max_length=most, return_tensors="pt").to(self._device)
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        row: Array = self._text(**inputs).text_embeds.float().cpu().numpy()
        return row


def image_tower(scorer: str, folder: Path, device: str) -> Encoder:
    """CLIP's image embedding [I, D], not normalised. Raises ValueError for another model."""
    return loaded(scorer, folder, "CLIP", lambda: load_encoder(f"clip:{folder}", device))


def _text_tower(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    model = pretrained(CLIPTextModelWithProjection, folder)
    return model, AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def describe_clip(cfg: ClipConfig) -> ScorerFacts:
    """Facts of CLIP from a folder or the hub. Raises FileNotFoundError or ValueError where it is not there."""
    folder = model_at("clip", cfg.model)
    revision = stable_id(VERSION, PREPROCESSING, base_revision(folder), cfg.before, cfg.after, cfg.blank)
    return ScorerFacts("clip", revision, KEYS, ("clip",), ("clip",), reads=("instruction", "caption"))
