"""FLUX.1-Kontext as an editor: the instruction is the prompt, the source the context image."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from PIL import Image

from lorweb.data.editors.base import EditorFacts, EditRequest, SeedBy
from lorweb.data.editors.diffusion import add_loras, device_of, edited, prompt_of, settings_of, settle
from lorweb.data.editors.entries import KontextConfig
from lorweb.data.rejects import Rejected
from lorweb.kontext.codec import decode_latents, encode_image
from lorweb.kontext.denoise import Sampling, denoise_grids
from lorweb.kontext.limits import NotFiniteError
from lorweb.kontext.load import load_base, resolve
from lorweb.kontext.model import TextEmbedding
from lorweb.records import stable_id

_PROMPTS = 256  # texts whose embeddings are kept


class KontextEditor:
    """Stock Kontext on one image at a time, never stretched: its own size rules play no part."""

    name = "kontext"
    seed_by: SeedBy = "pair"

    def __init__(self, cfg: KontextConfig) -> None:
        """Load the base and its LoRAs.

        Raises:
            FileNotFoundError, ValueError: the base or a LoRA is missing, damaged or of another kind.
        """
        self.cfg = cfg
        device = device_of(cfg)
        self.base = load_base(cfg.model, getattr(torch, cfg.dtype), "cpu")
        add_loras(self.base.pipeline, cfg.loras)
        settle(self.base.pipeline, cfg, device)
        if cfg.compile:
            self.base.transformer.compile_repeated_blocks(fullgraph=True)
        self.sampling = Sampling(cfg.num_inference_steps, cfg.guidance_scale)
        self.text = lru_cache(_PROMPTS)(self._text)

    def _text(self, prompt: str) -> TextEmbedding:
        found: TextEmbedding = self.base.text([prompt])
        return found

    @cached_property
    def revision(self) -> str:
        """Of weights, numbers and packages."""
        return describe_kontext(self.cfg).revision

    def __call__(self, batch: Sequence[EditRequest]) -> list[Image.Image | Rejected]:
        """The edited sources, in their own sizes, or why there is none (checks of `decode_rgb`, `not_finite`)."""
        try:
            return edited(batch, self.cfg.side, self._edit)
        finally:
            self.base.pipeline.maybe_free_model_hooks()

    def _edit(self, image: Image.Image, request: EditRequest) -> Image.Image:
        text: TextEmbedding = self.text(prompt_of(self.cfg, request))
        control_1CHW = encode_image(self.base, [image])
        try:  # float16 overflows in some layers of some bases
            z_1CHW = denoise_grids(self.base, control_1CHW, text, [request.seed], self.sampling)
            after: Image.Image = decode_latents(self.base, z_1CHW)[0]
        except NotFiniteError as error:
            raise Rejected("not_finite", str(error)) from error
        return after


def describe_kontext(cfg: KontextConfig) -> EditorFacts:
    """Known without loading; reads the weights once. Raises FileNotFoundError or ValueError."""
    return EditorFacts("kontext", stable_id(*settings_of(cfg, resolve(cfg.model))), KontextEditor.seed_by)
