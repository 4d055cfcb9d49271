"""Validation: loss of b' on held-out analogies at fixed noise and timesteps, with the true exemplar and without it.

The training loss is too noisy to read (one random t per row), and three quarters of its grid can be copied from the
control grid. Here every analogy keeps its noise and timestep for ever, the timesteps are spread evenly over (0, 1), and
only the quadrant b' counts. The difference between the loss without and with the true exemplar says how much the model
looks at it; noise, timestep, b and b' stay the same.

Legend: B rows of one forward, C latent channels, H W latent cells of the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorweb.kontext import flow
from lorweb.kontext.grid import quadrant_of_latents
from lorweb.training import reduce
from lorweb.training.dataset import Triple
from lorweb.training.limits import Ablation
from lorweb.training.sampler import stable_seed
from lorweb.training.step import Noised, Run, predict


@dataclass(frozen=True)
class HeldOut:
    """One validation analogy."""

    id: str
    task: str
    triple: Triple
    shuffled: str  # pair id of the exemplar that `other_exemplar` gives


@dataclass(frozen=True)
class ValidationSet:
    """A split: "seen" (trained tasks, new subjects) or "unseen" (tasks never trained)."""

    split: str
    analogies: tuple[HeldOut, ...]

    @property
    def shuffled(self) -> "ValidationSet":
        """Every analogy with the exemplar of another task."""
        rows = [replace(row, triple=replace(row.triple, exemplar=row.shuffled)) for row in self.analogies]
        return ValidationSet(f"{self.split}_shuffled", tuple(rows))

    @property
    def identity(self) -> "ValidationSet":
        """Every analogy with an exemplar that changes nothing: a' = a, in both grids and in the query."""
        rows = [replace(row, triple=replace(row.triple, unedited=True)) for row in self.analogies]
        return ValidationSet(f"{self.split}_identity", tuple(rows))

    @property
    def no_prompt(self) -> "ValidationSet":
        """Every analogy with its own exemplar and the empty prompt."""
        rows = [replace(row, triple=replace(row.triple, instruction="")) for row in self.analogies]
        return ValidationSet(f"{self.split}_no_prompt", tuple(rows))

    def ablated(self, ablations: Sequence[Ablation]) -> "list[ValidationSet]":
        """Itself, then each ablation. Where nothing has a prompt, "no_prompt" is itself and left out."""
        prompted = any(row.triple.instruction for row in self.analogies)
        asked = [name for name in ablations if name != "no_prompt" or prompted]
        found: dict[Ablation, ValidationSet] = {
            "shuffled": self.shuffled,
            "identity": self.identity,
            "no_prompt": self.no_prompt,
        }
        return [self, *(found[name] for name in asked)]


def choose(analogies: Sequence[HeldOut], split: str, count: int, seed: int) -> ValidationSet:
    """`count` analogies in an order that depends on (seed, id) alone, so that all tasks have their turn."""
    ordered = sorted(analogies, key=lambda analogy: stable_seed("validation", seed, analogy.id))
    return ValidationSet(split, tuple(ordered[:count]))


def all_of(sets: Sequence[ValidationSet]) -> ValidationSet:
    """The analogies of several splits as one set."""
    return ValidationSet("all", tuple(analogy for chosen in sets for analogy in chosen.analogies))


def validate(run: Run, chosen: ValidationSet) -> float:
    """Mean squared error of the velocity over the quadrant b', mean over the analogies, summed over all workers."""
    count = len(chosen.analogies)
    rank, workers = reduce.world()
    losses = torch.zeros(count, dtype=torch.float64)
    mine = list(range(rank, count, workers))
    for start in range(0, -(-count // workers), run.config.forward_rows):
        rows = mine[start : start + run.config.forward_rows]
        if rows:
            losses[rows] = _losses(run, chosen, rows).double().cpu()
        elif run.config.shard_base:  # a worker that stayed away would leave the others without its share of the weights
            _losses(run, chosen, [0])
    return float(reduce.sum_(losses.to(run.device)).mean())


@torch.no_grad()
def _losses(run: Run, chosen: ValidationSet, rows: list[int]) -> Tensor:
    """[B] losses of some analogies of the set."""
    analogies = [chosen.analogies[row] for row in rows]
    batch = run.encoded.grid_batch([analogy.triple for analogy in analogies]).to(run.device)
    seed = stable_seed("validation noise", run.sampler.seed)
    slots = [stable_seed(analogy.id) for analogy in analogies]
    x1_BCHW = flow.draw_noise(tuple(batch.x0_BCHW.shape[1:]), seed, 0, slots).to(run.device)
    t_B = torch.tensor([(row + 0.5) / len(chosen.analogies) for row in rows], device=run.device)
    noised = Noised(x1_BCHW, t_B)
    with run.variant.conditioned(batch.query_BQ):
        v_BCHW = predict(run.variant, batch, noised, run.config.guidance)
    parts = (quadrant_of_latents(grid, 1, 1) for grid in (v_BCHW, batch.x0_BCHW, noised.x1_BCHW))
    return flow.sample_losses(*parts)
