"""The models that are compared, and how each draws b': one table, one sampler, one noise per analogy.

Legend: B analogies, C latent channels, h w cells of a quadrant, H W of the grid, Q query width, L layers, N LoRAs.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from PIL import Image
from torch import Tensor

from lorweb.kontext.metadata import METADATA_FILE, read_metadata
from lorweb.kontext.model import TextEmbedding
from lorweb.training.dataset import Encoded
from lorweb.training.sampler import other_exemplar

CANDIDATE: Final = "candidate"
BASELINES: Final = ("single_lora", "single_lora_equal", "basis_constant")
"""Whose weights there may be beside the candidate's: names of folders in models/baselines."""


@dataclass(frozen=True)
class Model:
    """One column of the comparison."""

    weights: str | None  # CANDIDATE, one of BASELINES, or None for the bare base
    exemplar: Literal["true", "shuffled", "identity"]  # the pair shown on top: its own, another task's, or a' = a
    prompt: bool  # gets the instruction even if the settings say no prompt


@dataclass(frozen=True)
class Reference:
    """A column that nothing is drawn for: an image of the query pair, as stored or as the base's codec returns it."""

    side: Literal["before", "after"]  # b, or the true b'
    through_codec: bool


MODELS: Final[dict[str, Model | Reference]] = {
    "lorweb": Model(CANDIDATE, "true", False),
    "lorweb_shuffled": Model(CANDIDATE, "shuffled", False),
    "lorweb_identity": Model(CANDIDATE, "identity", False),
    **{name: Model(name, "true", False) for name in BASELINES},
    **{f"{name}_shuffled": Model(name, "shuffled", False) for name in BASELINES},
    "base": Model(None, "true", False),
    "base_prompt": Model(None, "true", True),
    "copy": Reference("before", through_codec=False),  # b itself
    "codec_copy": Reference("before", through_codec=True),  # what a model that copies b would draw
    "codec_truth": Reference("after", through_codec=True),  # the best that any model of this base could draw
}


@dataclass(frozen=True)
class Question:
    """One analogy as a model is asked it; pair ids name the images."""

    exemplar: str  # pair on top of the grid, see `exemplar_for`
    query: str  # its before is b
    instruction: str
    seed: int


@dataclass(frozen=True)
class Answer:
    """b' at quadrant size; the coefficients [L, N] if the model has a basis with external queries."""

    image: Image.Image
    mix_LN: Tensor | None  # of a basis with constants, those


@dataclass(frozen=True)
class Settings:
    """How everything is drawn."""

    base: str
    steps: int
    guidance: float
    prompt: bool  # give the instruction to every model
    device: str = "cpu"  # bfloat16 on "cuda", float32 elsewhere


class Painter:
    """Draws b' from encoded images: the frozen encoders do not run. Holds one model's weights at a time."""

    def __init__(self, encoded: Encoded, weights: Mapping[str, Path], settings: Settings) -> None:
        """`weights`: folders of CANDIDATE and BASELINES; only what is asked for needs to be there."""
        self.encoded, self.weights, self.settings = encoded, weights, settings
        self._loaded: tuple[str | None, Any, Any] | None = None

    @torch.no_grad()
    def __call__(self, name: str, questions: Sequence[Question]) -> list[Answer]:
        """b' of every question by one model of `MODELS`.

        Raises:
            FileNotFoundError, ValueError: base or weights are missing or do not fit.
        """
        from lorweb.basis import mix
        from lorweb.kontext.codec import decode_quadrants
        from lorweb.kontext.denoise import Sampling, denoise_grids

        model = MODELS[name]
        assert isinstance(model, Model) and questions, name
        base, variant = self._load(model.weights)
        control_BCHW, query_BQ, text = self._inputs(model, questions)
        query_BQ = query_BQ.to(base.device)
        with variant.conditioned(query_BQ) if variant is not None else nullcontext():
            sampling = Sampling(self.settings.steps, self.settings.guidance)
            grids_BCHW = denoise_grids(base, control_BCHW, text, [q.seed for q in questions], sampling)
        (images,) = decode_quadrants(base, grids_BCHW, [(1, 1)], self.encoded.composition)
        asked_BQ = None if variant is None else variant.asked(query_BQ)
        mixes = [None] * len(questions)
        if asked_BQ is not None:
            mixes = list(mix(base.transformer, asked_BQ).float().cpu().unbind(0))
        return [Answer(image, e_LN) for image, e_LN in zip(images, mixes, strict=True)]

    @torch.no_grad()
    def through_codec(self, side: str, questions: Sequence[Question]) -> list[Answer]:
        """The stored b ("before") or true b' ("after") in the place of b', decoded: what the codec leaves of them."""
        from lorweb.kontext.codec import decode_quadrants

        base, _ = self._load(None)
        rows_B4 = torch.tensor([(*self.encoded.pairs[q.exemplar], *self.encoded.pairs[q.query]) for q in questions])
        stored = self.encoded.stored
        grids_BCHW = stored.control(rows_B4[:, :3]) if side == "before" else stored.target(rows_B4)
        grids_BCHW = grids_BCHW.to(base.device, base.dtype)
        (images,) = decode_quadrants(base, grids_BCHW, [(1, 1)], self.encoded.composition)
        return [Answer(image, None) for image in images]

    def _inputs(self, model: Model, questions: Sequence[Question]) -> tuple[Tensor, Tensor, TextEmbedding]:
        """Control grids, queries and text, built by the functions that training and `apply` use."""
        rows_B3 = torch.tensor([(*self.encoded.pairs[q.exemplar], self.encoded.pairs[q.query][0]) for q in questions])
        if model.exemplar == "identity":
            rows_B3[:, 1] = rows_B3[:, 0]
        said = self.settings.prompt or model.prompt
        texts = [self.encoded.text(q.instruction if said else "") for q in questions]
        text = TextEmbedding(torch.cat([t.prompt_BTE for t in texts]), torch.cat([t.pooled_BP for t in texts]))
        return self.encoded.stored.control(rows_B3), self.encoded.queries(rows_B3), text

    def _load(self, weights: str | None) -> tuple[Any, Any]:
        """(base, variant); a fresh base for each, because a variant changes its transformer in place."""
        if self._loaded is None or self._loaded[0] != weights:
            from lorweb.kontext.load import load_base
            from lorweb.training.baseline import load_variant

            self._check_composition(weights)
            self._loaded = None  # frees the weights before others are read
            device = self.settings.device
            base = load_base(self.settings.base, torch.bfloat16 if device == "cuda" else torch.float32, device)
            variant = None if weights is None else load_variant(base.transformer, self.weights[weights])
            base.transformer.to(base.device).eval()
            self._loaded = weights, base, variant
        return self._loaded[1], self._loaded[2]

    def _check_composition(self, weights: str | None) -> None:
        if weights is None or not (self.weights[weights] / METADATA_FILE).is_file():
            return
        trained, found = read_metadata(self.weights[weights]).latents, self.encoded.composition
        if trained != found:
            raise ValueError(
                f"{self.weights[weights]} was trained with latents: {trained}, but the data are encoded with latents: "
                f"{found}; set encode.latents to {trained} and encode again, or train on these data"
            )


def weights_of(name: str) -> str | None:
    """CANDIDATE, one of BASELINES, or None for the bare base and for references."""
    row = MODELS[name]
    return row.weights if isinstance(row, Model) else None


def exemplar_for(model: str, analogy: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Pair id of the exemplar that `model` is shown: the analogy's own, or for shuffled models that of another task.

    All shuffled models get the same one, see `other_exemplar`.

    Raises:
        ValueError: every analogy is of one task, so that there is no other exemplar.
    """
    row = MODELS[model]
    if isinstance(row, Reference) or row.exemplar != "shuffled":
        return str(analogy["exemplar"])
    found = other_exemplar(analogy, others)
    if found is not None:
        return found
    raise ValueError(
        f"all analogies are of task {analogy['task']}, so no exemplar of another task exists; "
        f"evaluate at least two tasks, or leave {model} out of evaluate.models"
    )
