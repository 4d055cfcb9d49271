"""How each model draws b': one sampler, the same noises for all, from encoded images.

Legend: B analogies, C latent channels, h w cells of a quadrant, H W of the grid, Q query width, L layers, N LoRAs.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from lorweb.evaluation.fitting import check_fits, trained_with
from lorweb.evaluation.models import MODELS, OFFICIAL, Model
from lorweb.kontext.model import TextEmbedding
from lorweb.storage.fetched import fetched
from lorweb.storage.places import local
from lorweb.training.dataset import Encoded

MIXES_KEPT: Final = 64  # small: L x N numbers each


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
    prompt: bool  # give the instruction to every model that does not say otherwise
    device: str = "cpu"  # bfloat16 on "cuda", float32 elsewhere


class Painter:
    """Draws b' from encoded images: the frozen encoders do not run. Holds one model's weights at a time."""

    def __init__(self, encoded: Encoded, weights: Mapping[str, Path | str], settings: Settings) -> None:
        """`weights`: folders of CANDIDATE, OFFICIAL and BASELINES; only what is asked for needs to be there."""
        self.encoded, self.weights, self.settings = encoded, weights, settings
        self._loaded: tuple[str | None, Any, Any] | None = None
        self._mixes: dict[bytes, Tensor] = {}  # of the loaded weights, by what the router was asked

    @torch.no_grad()
    def __call__(self, name: str, questions: Sequence[Question]) -> list[Answer]:
        """b' of every question by one model of `MODELS`.

        Raises:
            FileNotFoundError, ValueError: base or weights are missing or do not fit.
        """
        from lorweb.kontext.codec import decode_quadrants
        from lorweb.kontext.denoise import Sampling, denoise_grids

        model = MODELS[name]
        assert isinstance(model, Model) and questions, name
        base, variant = self._load(model.weights)
        control_BCHW, query_BQ, text = self._inputs(model, questions)
        query_BQ = query_BQ.to(base.device)
        e_BLN = None if variant is None else self._mix(base.transformer, variant.asked(query_BQ))
        with _conditioned(base.transformer, variant, query_BQ, e_BLN):
            sampling = Sampling(self.settings.steps, self.settings.guidance)
            grids_BCHW = denoise_grids(base, control_BCHW, text, [q.seed for q in questions], sampling)
        (images,) = decode_quadrants(base, grids_BCHW, [(1, 1)], self.encoded.composition)
        mixes = [None] * len(questions) if e_BLN is None else list(e_BLN.float().cpu().unbind(0))
        return [Answer(image, e_LN) for image, e_LN in zip(images, mixes, strict=True)]

    def _mix(self, transformer: Any, asked_BQ: Tensor | None) -> Tensor | None:
        """Coefficients [B, L, N], computed once for what was asked: further noises and prompts ask the same again."""
        from lorweb.basis import mix

        if asked_BQ is None:
            return None
        key = asked_BQ.detach().float().cpu().numpy().tobytes()
        if key not in self._mixes:
            if len(self._mixes) >= MIXES_KEPT:
                self._mixes.pop(next(iter(self._mixes)))  # the oldest
            self._mixes[key] = mix(transformer, asked_BQ)
        return self._mixes[key]

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
        said = self.settings.prompt if model.prompt is None else model.prompt
        texts = [self.encoded.text(q.instruction if said else "") for q in questions]
        text = TextEmbedding(torch.cat([t.prompt_BTE for t in texts]), torch.cat([t.pooled_BP for t in texts]))
        return self.encoded.stored.control(rows_B3), self.encoded.queries(rows_B3), text

    def _load(self, weights: str | None) -> tuple[Any, Any]:
        """(base, variant); a fresh base for each, because a variant changes its transformer in place."""
        if self._loaded is None or self._loaded[0] != weights:
            from lorweb.kontext.load import load_base

            self._check_composition(weights)
            self._loaded, self._mixes = None, {}  # frees the weights before others are read
            device = self.settings.device
            base = load_base(self.settings.base, torch.bfloat16 if device == "cuda" else torch.float32, device)
            variant = None if weights is None else _variant(base.transformer, weights, self._folder(weights))
            base.transformer.to(base.device).eval()
            self._loaded = weights, base, variant
        return self._loaded[1], self._loaded[2]

    def _folder(self, weights: str) -> Path:
        """Where weights lie here, fetched if need be."""
        return local(fetched(self.weights[weights]))

    def _check_composition(self, weights: str | None) -> None:
        if weights is None:
            return
        trained = {name: value for name, value in trained_with(self._folder(weights)).items() if name == "latents"}
        check_fits(str(self.weights[weights]), trained, "the data", {"latents": self.encoded.composition})


def _conditioned(transformer: Any, variant: Any, query_BQ: Tensor, e_BLN: Tensor | None) -> Any:
    """What the model runs under: a mix where there is one, else whatever the variant makes of the query."""
    if e_BLN is not None:
        from lorweb.basis import analogy

        return analogy(transformer, mix=e_BLN)
    return nullcontext() if variant is None else variant.conditioned(query_BQ)


def _variant(transformer: Any, weights: str, folder: Path) -> Any:
    """What lies in a folder, put into a transformer, in place."""
    from lorweb.training.baseline import load_variant

    if weights != OFFICIAL:
        return load_variant(transformer, folder)
    from lorweb.evaluation.official import official_variant

    return official_variant(transformer, folder)
