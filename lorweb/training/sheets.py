"""Sample sheets: one analogy a row, a | a' | b | b' | truth, b' by real denoising from noise.

All images are decoded from latents, so that b' stands beside what the codec could show at best.
"""

import os
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw

from lorweb.kontext.codec import decode_quadrants
from lorweb.kontext.denoise import Sampling, denoise_grids
from lorweb.kontext.load import Base
from lorweb.training import reduce
from lorweb.training.sampler import stable_seed
from lorweb.training.step import Run
from lorweb.training.validation import HeldOut

COLUMNS: Final = ("a", "a'", "b", "b'", "truth")
_HEADER: Final = 14  # px


@torch.no_grad()
def sample_sheet(run: Run, base: Base, analogies: list[HeldOut]) -> Image.Image:
    """An RGB image of len(analogies) rows and five columns of quadrants; the same seeds every time.

    `run.variant` lives inside `base.transformer`. Steps and guidance are the base's own defaults.
    """
    assert analogies, "a sheet needs rows"
    batch = run.encoded.grid_batch([analogy.triple for analogy in analogies]).to(run.device)
    seeds = [stable_seed("sheet", run.sampler.seed, analogy.id) for analogy in analogies]
    sampling = Sampling(base.defaults.num_inference_steps, base.defaults.guidance_scale)
    with run.variant.conditioned(batch.query_BQ):
        made_BCHW = denoise_grids(base, batch.y_BCHW, batch.text, seeds, sampling)
    how = run.encoded.composition
    a, a2, b, truth = decode_quadrants(base, batch.x0_BCHW, [(0, 0), (0, 1), (1, 0), (1, 1)], how)
    (b2,) = decode_quadrants(base, made_BCHW.float(), [(1, 1)], how)
    return _assemble([a, a2, b, b2, truth])


def write_sheet(run: Run, base: Base, analogies: list[HeldOut], path: Path) -> None:
    """Rank 0 writes a sheet, in one rename, unless it is there already.

    With `shard_base` all ranks call this, as the model needs all of them; else rank 0 alone.
    """
    there = path.is_file()
    if run.config.shard_base:  # one answer for all: rank 0 may just be writing it
        there = bool(reduce.from_first(there, run.device))
    if there:
        return
    sheet = sample_sheet(run, base, analogies)
    if reduce.world()[0] == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        sheet.save(partial, format="PNG")
        partial.replace(path)


def _assemble(columns: list[list[Image.Image]]) -> Image.Image:
    pixels = np.concatenate([np.concatenate([np.asarray(image) for image in column], 0) for column in columns], 1)
    sheet = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + _HEADER), "white")
    sheet.paste(Image.fromarray(pixels), (0, _HEADER))
    pen = ImageDraw.Draw(sheet)
    for index, name in enumerate(COLUMNS):
        pen.text((index * sheet.width // len(COLUMNS) + 2, 1), name, fill="black")
    return sheet
