"""From a training state to the committed folder: diffusers format, metrics on held-out subjects, a picture sheet.

Legend: B batch, S pixels of one side, C latent channels, h w latent cells.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lorweb.data.catalogue import Task
from lorweb.kontext.denoise import Sampling, denoise_grids
from lorweb.kontext.load import load_base
from lorweb.tiny.architecture import MAX_SEQUENCE_LENGTH, write_settings
from lorweb.tiny.codec import PatchCodec


@dataclass(frozen=True)
class HeldOut:
    """Pairs of subjects that pre-training never saw: uint8 `[M, 3, S, S]`, task numbers `[M]`."""

    before: Tensor
    after: Tensor
    task: Tensor
    tasks: list[Task]


def write_base(pipe: Any, average: dict[str, Tensor], settings: dict[str, Any], folder: Path) -> None:
    """Fill the pipeline with the averaged weights and save it where a stock `FluxKontextPipeline` finds it."""
    for name, value in average.items():
        part, _, rest = name.partition(".")
        getattr(pipe, part).get_parameter(rest).data.copy_(value)
    pipe.save_pretrained(str(folder))
    write_settings(folder, settings)


def settings_of(n: dict[str, Any]) -> dict[str, Any]:
    """`lorweb.json` from the numbers of pre-training."""
    return {
        "guidance_scale": n["guidance_scale"],
        "max_sequence_length": MAX_SEQUENCE_LENGTH,
        "num_inference_steps": n["num_inference_steps"],
        "quadrant": n["quadrant"],
    }


@torch.no_grad()
def codec_metrics(codec: PatchCodec, images_B3SS: Tensor) -> dict[str, float]:
    """Mean PSNR in dB over images in [-1, 1]: of the whole codec, of its linear part, and of a linear one at 1/4."""
    fine = PatchCodec(latent_channels=64, refine_channels=0, refine_blocks=0)  # 64 of 192 = 16 channels per 4x4 patch
    fine.fit(images_B3SS)
    latents = codec.encode(images_B3SS).latents
    return {
        "psnr": _psnr(codec.decode(latents, return_dict=False)[0], images_B3SS),
        "psnr_linear": _psnr(codec.linear_decode(latents), images_B3SS),
        "psnr_64_components_fitted_here": _psnr(fine.linear_decode(fine.encode(images_B3SS).latents), images_B3SS),
    }


def _psnr(x: Tensor, y: Tensor) -> float:
    error_B = ((x.clamp(-1, 1) - y) ** 2).flatten(1).mean(1) / 4  # both in [-1, 1], so the peak is 2
    return float((-10 * error_B.clamp_min(1e-10).log10()).mean())


def edit_metrics(folder: Path, data: HeldOut, per_task: int, sheet: Path) -> dict[str, Any]:
    """Mean squared error (0..1 pixels) of instruction edits to the truth, beside that of copying the context image."""
    base = load_base(str(folder), torch.float32, "cpu")
    rows = [i for t in range(len(data.tasks)) for i in (data.task == t).nonzero()[:per_task, 0].tolist()]
    prompts = [data.tasks[int(data.task[i])].instructions[0] for i in rows]
    before, after = data.before[rows].float() / 255, data.after[rows].float() / 255
    sampling = Sampling(base.defaults.num_inference_steps, base.defaults.guidance_scale)
    codec, outputs = base.pipeline.vae, []
    for some in torch.arange(len(rows)).split(64):
        with torch.no_grad():
            y_BChw = codec.encode(before[some] * 2 - 1).latents
            text = base.text([prompts[i] for i in some])
            z_BChw = denoise_grids(base, y_BChw, text, [int(i) for i in some], sampling)
            outputs.append(codec.decode(z_BChw, return_dict=False)[0].clamp(-1, 1) / 2 + 0.5)
    edited = torch.cat(outputs)
    error, copy = ((edited - after) ** 2).flatten(1).mean(1), ((before - after) ** 2).flatten(1).mean(1)
    names = [data.tasks[int(data.task[i])].id for i in rows]
    one_per_task = [names.index(name) for name in dict.fromkeys(names)]
    save_sheet([before[one_per_task], edited[one_per_task], after[one_per_task]], sheet)
    per = {t.id: _task_errors(t.id, names, error, copy) for t in data.tasks}
    return {
        "edit_mse": float(error.mean()),
        "copy_mse": float(copy.mean()),
        "ratio": float(error.mean() / copy.mean()),
        "tasks": per,
    }


def _task_errors(task: str, names: list[str], error: Tensor, copy: Tensor) -> dict[str, float]:
    mine = torch.tensor([name == task for name in names])
    return {"edit_mse": round(float(error[mine].mean()), 5), "copy_mse": round(float(copy[mine].mean()), 5)}


def save_sheet(columns: list[Tensor], path: Path, across: int = 12) -> None:
    """Blocks of `across` examples: before, edited and truth below each other. The format is that of the file name."""
    count = len(columns[0]) // across * across
    blocks = []
    for start in range(0, count, across):
        for column in columns:
            blocks.append(torch.cat(list(column[start : start + across]), dim=2))
        blocks.append(torch.ones(3, 4, blocks[-1].shape[2]))
    pixels = (torch.cat(blocks, dim=1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """`metrics.json` beside the weights."""
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
