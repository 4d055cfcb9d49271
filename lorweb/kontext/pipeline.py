"""a : a' :: b : b' for people: PIL images in, PIL images out.

Legend: B queries, L layers with a basis, N LoRAs per layer.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lorweb.basis import BasisConfig, ImageEncoder, analogy, feature_dim, query_dim
from lorweb.basis import mix as mix_query
from lorweb.basis.fold import folded
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar, batches
from lorweb.kontext.denoise import Sampling, Seeds, denoise_grids
from lorweb.kontext.grid import Size
from lorweb.kontext.load import Base
from lorweb.kontext.model import TextEmbedding
from lorweb.kontext.place import Offload, Place, bring, check_foldable, released
from lorweb.kontext.pretrained import read_parts
from lorweb.kontext.query import query_of
from lorweb.kontext.quiet import note_unprompted
from lorweb.kontext.request import DEFAULT_SEED, AnalogyOutput, Answer, Request, check_lengths


class AnalogyPipeline:
    """Applies a trained basis on a frozen base. `rule`, `batch_size` and `fold` may be set between calls. `prompted`:
    whether its training saw prompts.

    With `fold`, a batch of one query is folded into the weights for its steps: the base's own speed for twice the
    memory of the targeted weights, and refused on quantised ones, with sequential offload and with internal queries.
    One run at a time: the basis sits in the transformer.
    """

    def __init__(
        self, base: Base, encoder: ImageEncoder | None, config: BasisConfig, rule: CanvasRule, batch_size: int = 4
    ) -> None:
        """`base.transformer` carries the basis that `config` describes; `batch_size` grids are denoised together.

        Internal queries need no encoder.

        Raises:
            ValueError: no encoder, or its features do not have the width that the basis was trained on.
        """
        if not config.internal:
            if encoder is None:
                raise ValueError("this basis asks with an encoder's features; give the encoder of its training")
            found = query_dim(config.query_mode, feature_dim(encoder, config.query_mode))
            if found != config.query_dim:
                raise ValueError(
                    f"encoder {encoder.name} gives a query of {found} values in mode {config.query_mode}, but this "
                    f"basis was trained on {config.query_dim}; use its own encoder"
                )
        self.base, self.encoder, self.config, self.rule, self.batch_size = base, encoder, config, rule, batch_size
        self.fold, self.prompted = False, True
        self.steps, self.guidance = base.defaults.num_inference_steps, base.defaults.guidance_scale

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        base: Base | None = None,
        encoder: ImageEncoder | None = None,
        device: str | None = None,
        *,
        dtype: torch.dtype | None = None,
        offload: Offload = "none",
    ) -> "AnalogyPipeline":
        """Load a model folder (`basis.safetensors` + `metadata.json`), or its safetensors file.

        `base` and `encoder` stand in for those named in the metadata when they are already loaded. `device` defaults to
        CUDA where there is one; `dtype` to bfloat16 on CUDA, and to float32 on the CPU, where bfloat16 is slow.
        `offload` "model" or "sequential" keeps the base in main memory, and brings in a model or a layer at a time.

        Raises:
            FileNotFoundError, ValueError: something is missing, damaged, or is not what the basis was trained on.
        """
        parts = read_parts(Path(model), base, encoder, Place.of(device, dtype, offload))
        metadata = parts.metadata
        rule = CanvasRule(Size(metadata.quadrant, metadata.quadrant), latents=metadata.latents)
        pipe = cls(parts.base, parts.encoder, parts.config, rule)
        pipe.prompted = metadata.extra.get("caption_dropout") != 1
        pipe.steps, pipe.guidance = metadata.num_inference_steps, metadata.guidance_scale
        if base is None:  # one that is given keeps its own
            pipe.set_progress_bar_config(disable=None)
        return pipe

    def set_progress_bar_config(self, **config: Any) -> None:
        """The stock pipeline's: options of tqdm for the bar of denoising steps. `disable=None` is off in log files."""
        self.base.pipeline.set_progress_bar_config(**config)

    def __call__(  # noqa: PLR0913, PLR0917  the signature that diffusers users know
        self,
        a: Image.Image,
        a2: Image.Image,
        b: Image.Image | list[Image.Image],
        prompt: str | list[str] = "",
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        strength: float = 1.0,
        *,
        seed: int | list[int] | None = None,
        mix: Tensor | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> AnalogyOutput:
        """b' for each b; steps and guidance default to the model's own.

        Without `generator` and `seed` the seed is 0, so that the same call gives the same image.
        `callback(done, steps)` runs after every step of every batch; an exception in it stops the run.

        Raises:
            ValueError: images, prompts or seeds that cannot be used; the sentence says which and what to do.
        """
        if generator is not None and seed is not None:
            raise ValueError("generator and seed are both given; give one of them")
        sampling = Sampling(
            self.steps if num_inference_steps is None else num_inference_steps,
            self.guidance if guidance_scale is None else guidance_scale,
            None if callback is None else lambda step: callback(step.done, step.steps),
        )
        seeds = generator if generator is not None else DEFAULT_SEED if seed is None else seed
        queries = b if isinstance(b, list) else [b]
        check_lengths(len(queries), prompt, seeds, mix)
        answers = list(self.stream(a, a2, queries, Request(sampling, prompt, seeds, strength, mix)))
        mixes = [answer.mix_LN for answer in answers if answer.mix_LN is not None]
        return AnalogyOutput([answer.image for answer in answers], torch.stack(mixes) if mixes else None)

    def stream(
        self, a: Image.Image, a2: Image.Image, queries: Iterable[Image.Image], request: Request
    ) -> Iterator[Answer]:
        """Answers in order, as soon as their batch is done; `queries` may be lazy, one batch is held at a time."""
        exemplar = Exemplar.of(a, a2, self.rule)
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        if not self.prompted:
            note_unprompted(prompts)
        with released(self.base):
            text = self.base.text(prompts)
            for first, batch in batches(queries, self.rule, self.batch_size):
                index = list(range(first, first + len(batch)))
                canvas = Canvas.of(exemplar, batch, self.rule)
                e_BLN = self._mix(canvas, request.mix, index)
                seeds = [request.seed_of(i) for i in index]
                rows = text if len(text) == 1 else text.rows(index)
                grids = self._denoise(canvas, rows, e_BLN, seeds, request)
                images = canvas.decode(self.base, grids, self.rule)
                yield from map(Answer, images, [None] * len(batch) if e_BLN is None else e_BLN)

    def mix(self, a: Image.Image, a2: Image.Image, b: Image.Image | list[Image.Image]) -> Tensor:
        """Coefficients [L, N] of one analogy (float32, CPU); [B, L, N] for a list of queries. Eq. 3 and 4.

        Raises:
            ValueError: images that cannot be used, or internal queries: their coefficients change with step and noise.
        """
        exemplar = Exemplar.of(a, a2, self.rule)
        found = batches(b if isinstance(b, list) else [b], self.rule, self.batch_size)
        e_BLN = torch.cat([self._routed(Canvas.of(exemplar, batch, self.rule)) for _, batch in found])
        return e_BLN if isinstance(b, list) else e_BLN[0]

    def bake(self, mix: Tensor, rank: int | None = None) -> Any:
        """One analogy as a plain LoRA, from its mix [L, N]: what `lorweb.basis.fold.bake` returns."""
        from lorweb.basis import fold

        return fold.bake(self.base.transformer, mix, rank=rank)

    def _mix(self, canvas: Canvas, given: Tensor | None, index: list[int]) -> Tensor | None:
        if given is not None:
            return given.float().cpu()[index] if given.ndim == 3 else given.float().cpu().expand(len(index), -1, -1)
        return None if self.config.internal else self._routed(canvas)

    @torch.no_grad()
    def _routed(self, canvas: Canvas) -> Tensor:
        if self.encoder is None:
            raise ValueError("this basis has internal queries: every layer asks at every step, so there is no one mix")
        query_BQ = query_of(self.encoder, self.config.query_mode, canvas)
        return mix_query(self.base.transformer, query_BQ).float().cpu()

    def _denoise(
        self, canvas: Canvas, text: TextEmbedding, e_BLN: Tensor | None, seeds: Seeds, request: Request
    ) -> Tensor:
        control_BCHW = canvas.encode(self.base, self.rule)
        bring(self.base.transformer)
        sampling = request.watched(lambda grids_BCHW: canvas.preview(self.base, grids_BCHW, self.rule))
        with torch.no_grad(), self._applied(e_BLN, request.strength):
            return denoise_grids(self.base, control_BCHW, text, seeds, sampling)

    def _applied(self, e_BLN: Tensor | None, strength: float) -> AbstractContextManager[Any]:
        """The analogies of a batch, live or folded. Raises ValueError where `fold` is set and cannot be."""
        if self.fold and e_BLN is None:
            raise ValueError("internal queries change with layer and step and cannot be folded; set fold = False")
        if self.fold and e_BLN is not None and len(e_BLN) == 1:
            check_foldable(self.base)
            return folded(self.base.transformer, e_BLN, strength)
        return analogy(self.base.transformer, mix=e_BLN, strength=strength)
