"""a : a' :: b : b' for people: PIL images in, PIL images out.

Legend: B queries, L layers with a basis, N LoRAs per layer.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lorweb.basis import BasisConfig, ImageEncoder, analogy, feature_dim, query_dim
from lorweb.basis import mix as mix_query
from lorweb.basis.fold import folded
from lorweb.kontext.canvas import Canvas, CanvasRule, Exemplar
from lorweb.kontext.denoise import Callback, Sampling, Seeds, denoise_grids
from lorweb.kontext.grid import Size
from lorweb.kontext.images import as_rgb
from lorweb.kontext.load import Base, load_base
from lorweb.kontext.metadata import BASIS_FILE, ModelMetadata, read_metadata
from lorweb.kontext.model import TextEmbedding
from lorweb.kontext.query import query_of
from lorweb.kontext.request import DEFAULT_SEED, AnalogyOutput, Answer, Request, check_lengths


class AnalogyPipeline:
    """Applies a trained basis on a frozen base. `rule`, `batch_size` and `fold` may be set between calls.

    With `fold`, a batch of one query is folded into the weights for its steps: the base's own speed for twice the
    memory of the targeted weights, and refused on quantised ones. One run at a time: the basis sits in the transformer.
    """

    def __init__(
        self, base: Base, encoder: ImageEncoder, config: BasisConfig, rule: CanvasRule, batch_size: int = 4
    ) -> None:
        """`base.transformer` carries the basis that `config` describes; `batch_size` grids are denoised together.

        Raises:
            ValueError: the encoder's features do not have the width that the basis was trained on.
        """
        if not config.internal:
            found = query_dim(config.query_mode, feature_dim(encoder, config.query_mode))
            if found != config.query_dim:
                raise ValueError(
                    f"encoder {encoder.name} gives a query of {found} values in mode {config.query_mode}, but this "
                    f"basis was trained on {config.query_dim}; use its own encoder"
                )
        self.base, self.encoder, self.config, self.rule, self.batch_size = base, encoder, config, rule, batch_size
        self.fold = False
        self.steps, self.guidance = base.defaults.num_inference_steps, base.defaults.guidance_scale

    @classmethod
    def from_pretrained(
        cls, model: str | Path, base: Base | None = None, encoder: ImageEncoder | None = None, device: str | None = None
    ) -> "AnalogyPipeline":
        """Load a model folder (`basis.safetensors` + `metadata.json`), or its safetensors file.

        `base` and `encoder` stand in for those named in the metadata when they are already loaded. `device` defaults to
        CUDA where there is one. bfloat16 on CUDA, float32 on the CPU, where bfloat16 is slow.

        Raises:
            FileNotFoundError, ValueError: something is missing, damaged, or is not what the basis was trained on.
        """
        from lorweb.basis import checkpoint

        path = Path(model)
        file = path / BASIS_FILE if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(
                f"no basis at {file}; give a model folder with {BASIS_FILE}, or a safetensors file in one"
            )
        metadata = read_metadata(file.parent)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        base = base or load_base(metadata.base, torch.bfloat16 if device.startswith("cuda") else torch.float32, device)
        encoder = encoder or _load_encoder(metadata.encoder, device)
        _check_revisions(metadata, base, encoder)
        config, _ = checkpoint.load(base.transformer, file)
        base.transformer.to(base.device)
        pipe = cls(base, encoder, config, CanvasRule(Size(metadata.quadrant, metadata.quadrant)))
        pipe.steps, pipe.guidance = metadata.num_inference_steps, metadata.guidance_scale
        return pipe

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
        callback: Callback | None = None,
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
            callback,
        )
        seeds = generator if generator is not None else DEFAULT_SEED if seed is None else seed
        queries = b if isinstance(b, list) else [b]
        check_lengths(len(queries), prompt, seeds, mix)
        answers = list(self.stream(a, a2, queries, Request(sampling, prompt, seeds, strength, mix)))
        return AnalogyOutput([answer.image for answer in answers], torch.stack([answer.mix_LN for answer in answers]))

    def stream(
        self, a: Image.Image, a2: Image.Image, queries: Iterable[Image.Image], request: Request
    ) -> Iterator[Answer]:
        """Answers in order, as soon as their batch is done; `queries` may be lazy, one batch is held at a time."""
        exemplar = Exemplar.of(a, a2, self.rule)
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        text = self.base.text(prompts)
        for first, batch in self._batches(queries):
            index = list(range(first, first + len(batch)))
            canvas = Canvas.of(exemplar, batch, self.rule)
            e_BLN = self._mix(canvas, request.mix, index)
            seeds = [request.seed_of(i) for i in index]
            rows = text if len(text) == 1 else text.rows(index)
            grids = self._denoise(canvas, rows, e_BLN, seeds, request)
            yield from map(Answer, canvas.decode(self.base, grids, self.rule), e_BLN)

    def mix(self, a: Image.Image, a2: Image.Image, b: Image.Image | list[Image.Image]) -> Tensor:
        """Coefficients [L, N] of one analogy (float32, CPU); [B, L, N] for a list of queries. Eq. 3 and 4."""
        exemplar = Exemplar.of(a, a2, self.rule)
        batches = self._batches(b if isinstance(b, list) else [b])
        e_BLN = torch.cat([self._mix(Canvas.of(exemplar, batch, self.rule), None, []) for _, batch in batches])
        return e_BLN if isinstance(b, list) else e_BLN[0]

    def bake(self, mix: Tensor, rank: int | None = None) -> Any:
        """One analogy as a plain LoRA, from its mix [L, N]: what `lorweb.basis.fold.bake` returns."""
        from lorweb.basis import fold

        return fold.bake(self.base.transformer, mix, rank=rank)

    def _batches(self, queries: Iterable[Image.Image]) -> Iterator[tuple[int, list[Image.Image]]]:
        """Runs of at most `batch_size` neighbours that share a quadrant size, each with the index of its first."""
        batch: list[Image.Image] = []
        first, sizes = 0, set()
        for index, query in enumerate(queries):
            b = as_rgb(query, f"b[{index}]")
            sizes.add(self.rule.quadrant_for(Size.of(b)))
            if batch and (len(batch) == self.batch_size or len(sizes) > 1):
                yield first, batch
                batch, first, sizes = [], index, {self.rule.quadrant_for(Size.of(b))}
            batch.append(b)
        if not batch:
            raise ValueError("there is no query image b; give at least one")
        yield first, batch

    @torch.no_grad()
    def _mix(self, canvas: Canvas, given: Tensor | None, index: list[int]) -> Tensor:
        if given is None:
            query_BQ = query_of(self.encoder, self.config.query_mode, canvas)
            return mix_query(self.base.transformer, query_BQ.to(self.base.device)).float().cpu()
        return given.float().cpu()[index] if given.ndim == 3 else given.float().cpu().expand(len(index), -1, -1)

    def _denoise(self, canvas: Canvas, text: TextEmbedding, e_BLN: Tensor, seeds: Seeds, request: Request) -> Tensor:
        control_BCHW = canvas.encode(self.base, self.rule)
        if self.fold and len(e_BLN) == 1:
            applied = folded(self.base.transformer, e_BLN, request.strength)
        else:
            applied = analogy(self.base.transformer, mix=e_BLN, strength=request.strength)
        with torch.no_grad(), applied:
            return denoise_grids(self.base, control_BCHW, text, seeds, request.sampling)


def _load_encoder(name: str, device: str) -> ImageEncoder:
    from lorweb.basis.encoders import load_encoder

    return load_encoder(name, device)


def _check_revisions(metadata: ModelMetadata, base: Base, encoder: ImageEncoder) -> None:
    if base.revision != metadata.base_revision:
        raise ValueError(
            f"the basis was trained on base {metadata.base} at revision {metadata.base_revision}, but {base.folder} is "
            f"{base.revision}; give the base of its training, or train on this one"
        )
    if encoder.revision != metadata.encoder_revision:  # a name may hold a folder, which may have moved
        raise ValueError(
            f"the basis was trained with encoder {metadata.encoder} ({metadata.encoder_revision}), but got "
            f"{encoder.name} ({encoder.revision}); give the encoder of its training"
        )
