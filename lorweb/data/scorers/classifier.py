"""Image classifiers of transformers as scores: heads for unsafe content, watermarks, and the like.

Legend: I distinct images, L labels.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from PIL import Image

from lorweb.config_errors import unknown_name
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Known, PairImages, Scored, ScorerFacts
from lorweb.data.scorers.entries import ClassifierConfig
from lorweb.data.scorers.folders import device_for, in_turn, loaded, model_at, pretrained
from lorweb.data.scorers.sides import DistinctImages
from lorweb.kontext.files import base_revision
from lorweb.records import stable_id

VERSION: Final = 1  # goes up when the same model would give other scores


class ClassifierScorer(Known):
    """One score, 0..1: the larger of the two probabilities, of a and of a', that an image has one of the labels."""

    def __init__(self, cfg: ClassifierConfig, facts: ScorerFacts) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        super().__init__(facts)
        folder, self._device = model_at(facts.name, cfg.model), device_for(cfg.pool.gpus)

        def load() -> tuple[Any, Any]:
            model = pretrained(AutoModelForImageClassification, folder)
            return model, AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, backend="pil")

        model, self._processor = loaded(facts.name, folder, "an image classifier", load)
        self._model = model.to(self._device)
        names = {str(name): int(place) for name, place in self._model.config.label2id.items()}
        for label in cfg.labels:
            if label not in names:
                raise ValueError(f"scorer '{facts.name}': {unknown_name('label', label, names)}")
        self._places = [names[label] for label in cfg.labels]

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair; an image that several pairs share is looked at once."""
        if not pairs:
            return []
        distinct = DistinctImages.of(pairs)
        chance_I = in_turn(self._probabilities, distinct.images, self._device)[:, self._places].sum(axis=1)
        larger_P = np.clip(np.maximum(chance_I[distinct.before], chance_I[distinct.after]), 0.0, 1.0)
        return [Scored({self.facts.keys[0]: float(value)}) for value in larger_P]

    def _probabilities(self, images: list[Image.Image]) -> Any:
        inputs = self._processor(images=images, return_tensors="pt").to(self._device)
        return self._model(**inputs).logits.float().softmax(dim=-1)  # [I, L]


def describe_classifier(cfg: ClassifierConfig) -> ScorerFacts:
    """Facts of a classifier. Raises FileNotFoundError or ValueError where it is not there."""
    name = f"classifier_{cfg.name}"
    revision = stable_id(VERSION, base_revision(model_at(name, cfg.model)), sorted(cfg.labels))
    return ScorerFacts(name, revision, (cfg.name,))
