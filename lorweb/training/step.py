"""One training step, the same for every variant: flow matching over the whole grid (paper Eq. 1).

Legend: B rows of this worker's part of the batch, C latent channels, H W latent cells of the grid, L tokens, D channels
of a token.
"""

import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lorweb.config import Train
from lorweb.kontext import flow
from lorweb.kontext.grid import Size
from lorweb.kontext.model import Conditions, guidance_vector, velocity
from lorweb.kontext.tokens import pack, positions, unpack
from lorweb.training import reduce
from lorweb.training.dataset import Batch, Encoded, Triple
from lorweb.training.ema import Ema
from lorweb.training.offload import offloading
from lorweb.training.optimizer import schedule_factor, update
from lorweb.training.sampler import AnalogySampler, Drawn, slot_view
from lorweb.training.sharding import Shards
from lorweb.training.variants import Variant


class NonFiniteError(RuntimeError):
    """Loss or gradient is not a finite number; raised before the optimiser touched the weights."""


@dataclass(frozen=True)
class Run:
    """Everything a step reads; nothing in it but weights, their average and moments ever changes."""

    variant: Variant
    encoded: Encoded
    sampler: AnalogySampler
    optimizer: torch.optim.Optimizer
    config: Train
    folder: Path  # where offending ids are written
    ema: Ema | None = None
    sharded: Shards | None = None  # who keeps what of the state; None: every worker all of it

    @cached_property
    def shards(self) -> Shards:
        return self.sharded or Shards("none", self.variant.parameters)

    @property
    def device(self) -> torch.device:
        return next(iter(self.variant.adapters.values())).device

    def averaged(self) -> AbstractContextManager[None]:
        """The weights that validation, sheets and files show: their running average, where the run keeps one."""
        return self.ema.in_place_of(self.variant.parameters) if self.ema else nullcontext()


@dataclass(frozen=True)
class StepResult:
    """Of one step, over all workers."""

    loss: float  # weighted mean, before the update
    gradient_norm: float  # before clipping
    router_gradient_norm: float  # 0 at step 0, where B = 0 hides the router from the loss, and for plain LoRAs
    learning_rate: float
    basis_gradient_norm: float  # of A and B; of all parts before clipping, as above
    key_gradient_norm: float  # of the keys, or of the constants in their place; 0 without
    projection_gradient_norm: float  # 0 without


@dataclass(frozen=True)
class Noised:
    """x1 and t of every row of a batch."""

    x1_BCHW: Tensor
    t_B: Tensor


def predict(variant: Variant, batch: Batch, noised: Noised, guidance: float, offload: bool = False) -> Tensor:
    """v(z_t, t, y, c), [B, C, H, W]; call it inside `variant.conditioned(batch.query_BQ)`."""
    transformer = variant.transformer
    z_BLD = pack(flow.add_noise(batch.x0_BCHW, noised.x1_BCHW, noised.t_B)).to(transformer.dtype)
    size = Size(*batch.x0_BCHW.shape[-2:])
    text = batch.text.to(z_BLD)
    given = Conditions(
        pack(batch.y_BCHW).to(z_BLD),
        text,
        guidance_vector(transformer, guidance, z_BLD),
        positions(size, text.prompt_BTE.shape[1], z_BLD),
    )
    with _autocast(z_BLD), offloading(transformer if offload else None):
        v_BLD = velocity(transformer, z_BLD, noised.t_B.to(z_BLD), given)
    return unpack(v_BLD, size)


def _autocast(like: Tensor) -> AbstractContextManager[object]:
    """Beside a bfloat16 base on CUDA the float32 adapters multiply in bfloat16 too; CPUs crawl at it, and keep float32.

    Weights, gradients, moments, coefficients and the loss stay float32.
    """
    on = like.device.type == "cuda" and like.dtype == torch.bfloat16
    return torch.autocast("cuda", torch.bfloat16) if on else nullcontext()


def take_step(run: Run, step: int) -> StepResult:
    """Step number `step` (from 0): draw, forward, backward, sum over workers, clip, update.

    With `config.accumulate` this worker's rows go through the model in so many micro-batches; noise, timesteps and the
    loss, a mean over the whole global batch, do not know of them.

    Raises:
        NonFiniteError: loss or gradient norm is NaN or infinite on any worker; the weights are as before the step, and
            the offending analogies are in `run.folder`/nonfinite-step-N-rank-R.json.
    """
    rank, workers = reduce.world()
    config = run.config
    drawn = run.sampler.batch(step, rank, workers)
    run.shards.clear_gradients()
    rows = _joined([_backward(run, step, part) for part in micro_batches(drawn, config.accumulate)])
    loss = float(reduce.sum_(rows.weighted_B.sum() / config.batch_size))
    run.shards.sum_gradients()
    norm, router_norm, *part_norms = run.shards.norms(run.variant.parts)
    run.shards.clip(config.optimizer.max_grad_norm, norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise NonFiniteError(_report(run, step, _Offence(loss, norm, rows)))
    rate = update(run.optimizer, config.optimizer, schedule_factor(step, config.steps, config.optimizer))
    run.shards.spread()
    if run.ema:
        run.ema.update(run.variant.parameters, step)
    return StepResult(loss, norm, router_norm, rate, *part_norms)


def micro_batches(drawn: Sequence[Drawn], count: int) -> list[Sequence[Drawn]]:
    """Rows in `count` parts, in order, whose sizes differ by at most one."""
    return [drawn[len(drawn) * i // count : len(drawn) * (i + 1) // count] for i in range(count)]


@dataclass(frozen=True)
class _Rows:
    """What a report says of the rows of a batch."""

    ids: list[str]
    weighted_B: Tensor  # weighted losses
    t_B: Tensor


def _backward(run: Run, step: int, drawn: Sequence[Drawn]) -> _Rows:
    """Add the gradients of some rows of a step to those that are there."""
    config = run.config
    slots = [analogy.slot for analogy in drawn]
    views = [slot_view(run.sampler.seed, step, slot, run.encoded.views) for slot in slots]
    triples = [Triple(d.exemplar, d.query, d.instruction, view) for d, view in zip(drawn, views, strict=True)]
    batch = run.encoded.grid_batch(triples).to(run.device)
    noised = Noised(
        flow.draw_noise(tuple(batch.x0_BCHW.shape[1:]), run.sampler.seed, step, slots).to(run.device),
        flow.draw_timesteps(config.timesteps, run.sampler.seed, step, slots).to(run.device),
    )
    with run.variant.conditioned(batch.query_BQ):
        v_BCHW = predict(run.variant, batch, noised, config.guidance, config.offload_activations)
        losses_B = flow.sample_losses(v_BCHW, batch.x0_BCHW, noised.x1_BCHW)
        weighted_B = flow.weigh(config.weighting, noised.t_B) * losses_B
        # a share of the global mean, so that the sum over workers and micro-batches is the mean whatever their number
        (weighted_B.sum() / config.batch_size).backward()  # inside: checkpointing runs the forward again
    return _Rows(batch.ids, weighted_B.detach(), noised.t_B)


def _joined(parts: Sequence[_Rows]) -> _Rows:
    ids = [id_ for part in parts for id_ in part.ids]
    return _Rows(ids, torch.cat([part.weighted_B for part in parts]), torch.cat([part.t_B for part in parts]))


@dataclass(frozen=True)
class _Offence:
    loss: float
    gradient_norm: float
    rows: _Rows


def _report(run: Run, step: int, offence: _Offence) -> str:
    """Write what was in the batch; JSON has no NaN, so the numbers are text."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / f"nonfinite-step-{step:08d}-rank-{reduce.world()[0]}.json"
    found = list(zip(offence.rows.ids, offence.rows.weighted_B.tolist(), offence.rows.t_B.tolist(), strict=True))
    rows = [{"id": i, "loss": str(loss), "t": t} for i, loss, t in found]
    facts = {"step": step, "loss": str(offence.loss), "gradient_norm": str(offence.gradient_norm), "rows": rows}
    path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    bad = [i for i, loss, _ in found if not math.isfinite(loss)]
    return (
        f"step {step} has loss {offence.loss} and gradient norm {offence.gradient_norm}; the weights were not changed. "
        f"Offending analogies: {bad or 'none on this worker by loss alone'}, all of them in {path}; "
        "look at these images, or lower optimizer.learning_rate and go on with --allow-mismatch"
    )
