"""From noise to a grid of latents: `velocity` in the stock scheduler's Euler steps.

Works alike on the bare base, inside `with analogy(...)`, and on a base with PEFT adapters.
Legend: B batch, C latent channels, H W latent rows and columns of the grid, L tokens of the grid, D token channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorweb.kontext.grid import Size
from lorweb.kontext.limits import GUIDANCE, STEPS, NotFiniteError, check_number, check_whole
from lorweb.kontext.load import Base
from lorweb.kontext.model import Conditions, TextEmbedding, guidance_vector, velocity
from lorweb.kontext.tokens import pack, positions, unpack

Seeds = Sequence[int] | Sequence[torch.Generator]


@dataclass(frozen=True)
class Step:
    """What is known after a step: `grids_BCHW` is where the velocity leads in a straight line, x0 = z - sigma v. After
    the last step it is the result itself.
    """

    done: int
    steps: int
    grids_BCHW: Tensor


@dataclass(frozen=True)
class Sampling:
    """How to denoise: Euler steps from t = 1 to 0, and the scale fed to the guidance embedding.

    `watch` is called after each step; an exception in it stops the run.
    """

    steps: int
    guidance: float
    watch: Callable[[Step], None] | None = None

    def __post_init__(self) -> None:
        check_whole(self.steps, "number of inference steps", STEPS)
        check_number(self.guidance, "guidance scale", GUIDANCE)


def schedule(config: Any, steps: int, tokens: int, device: torch.device) -> Any:
    """A stock FlowMatchEulerDiscreteScheduler set to `steps` sigmas from 1 to 1/steps, shifted for `tokens` tokens.

    A fresh object per call: the scheduler counts its steps, so that one shared by two runs would be wrong for both.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    shift = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), device=device, mu=shift)
    scheduler.set_begin_index(0)
    return scheduler


def initial_noise(base: Base, size: Size, seeds: Seeds) -> Tensor:
    """[B, C, H, W] standard normal, row i from seed (or generator) i alone: the stock pipeline's draw for it."""
    from diffusers.utils.torch_utils import randn_tensor

    shape = (1, base.latent_channels, size.height, size.width)
    sources = [s if isinstance(s, torch.Generator) else torch.Generator().manual_seed(s) for s in seeds]
    return torch.cat([randn_tensor(shape, generator=s, device=base.device, dtype=base.dtype) for s in sources])


@torch.no_grad()
def denoise_grids(base: Base, control_BCHW: Tensor, text: TextEmbedding, seeds: Seeds, sampling: Sampling) -> Tensor:
    """Target grids [B, C, H, W] for control grids [B, C, H, W]; row i starts from seed i, whatever its batch.

    `text` has one row, or one per grid. Numbers agree with a stock FluxKontextPipeline call on the same control grid.
    The bar of steps is the stock pipeline's: off after `load_base`, see its `set_progress_bar_config`.

    Raises:
        ValueError: the number of seeds or of prompts does not fit the number of grids, or the result is not finite.
    """
    B, size = len(control_BCHW), Size(*control_BCHW.shape[-2:])
    if len(seeds) != B:
        raise ValueError(f"{len(seeds)} seeds for {B} grids; give one seed for each grid")
    control_BLD = pack(control_BCHW.to(base.device, base.dtype))
    z_BLD = pack(initial_noise(base, size, seeds))
    text = text.expand(B).to(z_BLD)
    given = Conditions(
        control_BLD,
        text,
        guidance_vector(base.transformer, sampling.guidance, z_BLD),
        positions(size, text.prompt_BTE.shape[1], z_BLD),
    )
    scheduler = schedule(base.pipeline.scheduler.config, sampling.steps, z_BLD.shape[1], base.device)
    with base.pipeline.progress_bar(total=sampling.steps) as bar:
        for done, timestep in enumerate(scheduler.timesteps, start=1):
            t_B = timestep.expand(B).to(z_BLD.dtype) / 1000
            v_BLD = velocity(base.transformer, z_BLD, t_B, given)
            if sampling.watch is not None:
                x0_BLD = (z_BLD.float() - scheduler.sigmas[done - 1] * v_BLD.float()).to(z_BLD.dtype)
            z_BLD = scheduler.step(v_BLD, timestep, z_BLD, return_dict=False)[0]
            bar.update()
            if sampling.watch is not None:
                sampling.watch(Step(done, sampling.steps, unpack(x0_BLD, size)))
    target_BCHW = unpack(z_BLD, size)
    if not bool(target_BCHW.isfinite().all()):
        raise NotFiniteError(f"the latents after {sampling.steps} steps", base.dtype)
    assert target_BCHW.shape == control_BCHW.shape, (target_BCHW.shape, control_BCHW.shape)
    return target_BCHW
