"""Is the router alive? Numbers that show a basis collapsing into one static LoRA while its loss still falls; alarms.

Legend: B queries, L layers, N LoRAs per layer, Q query width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lorweb.basis import basis_layers, mix
from lorweb.basis.health import DEAD_SHARE, Health, health
from lorweb.basis.mix_health import atom_norms, atom_use, dead_atoms, mix_entropy, mix_health, mix_variation
from lorweb.config import Train
from lorweb.training.limits import Alarms
from lorweb.training.step import Run
from lorweb.training.validation import ValidationSet


@torch.no_grad()
def router_health(run: Run, chosen: ValidationSet) -> dict[str, float]:
    """Numbers of the held-out analogies by name; {} for variants without a mix.

    The fields of `MixHealth`, and means over layers as `lorweb.basis.health` defines them: `entropy`, `variation` and
    `dead_atoms`, here the share of all atoms (1 before the first step, when B is zero).
    """
    asked_BQ = _asked(run, chosen)
    if asked_BQ is None:
        return {}
    e_BLN = mix(run.variant.transformer, asked_BQ).double().cpu()
    layers = list(basis_layers(run.variant.transformer).values())
    dead = [
        len(dead_atoms(atom_use(e_BN, atom_norms(layer)), DEAD_SHARE))
        for layer, e_BN in zip(layers, e_BLN.unbind(1), strict=True)
    ]
    return {
        **asdict(mix_health(e_BLN)),
        "entropy": mix_entropy(e_BLN),
        "variation": math.fsum(mix_variation(e_BN) for e_BN in e_BLN.unbind(1)) / len(layers),
        "dead_atoms": sum(dead) / (len(layers) * e_BLN.shape[-1]),
    }


@torch.no_grad()
def basis_health(run: Run, chosen: ValidationSet) -> Health | None:
    """Every layer of the trained basis, on the queries of the held-out analogies; None for variants without a mix."""
    asked_BQ = _asked(run, chosen)
    return None if asked_BQ is None else health(run.variant.transformer, asked_BQ)


@dataclass(frozen=True)
class Alarm:
    """A number of the basis' health beyond its bound at one validation."""

    step: int
    name: str  # of the number in a row of health
    value: float
    bound: float

    @property
    def sentence(self) -> str:
        """What it means and what may help."""
        meaning, remedy = MEANINGS[self.name]
        side = "above" if self.value > self.bound else "below"
        return (
            f"{meaning}: {self.name} is {self.value:.3g} after step {self.step}, {side} the bound {self.bound:g} "
            f"(train.alarms); {remedy}"
        )


_ROUTER = "lower optimizer.learning_rate or optimizer.router_multiplier, or raise basis.key_dim"
MEANINGS = {
    "entropy": ("the router has collapsed onto one LoRA of each layer", _ROUTER),
    "variation": ("the router gives all exemplars nearly the same coefficients", "raise optimizer.router_multiplier"),
    "dead_atoms": ("many LoRAs of the basis do nothing", "lower basis.n_loras, or look at `lorweb health`"),
}


def alarms(rows: Sequence[Mapping[str, Any]], bounds: Alarms | None) -> list[Alarm]:
    """Every number beyond its bound, in the order of the validations; rows {"step", ...router_health}."""
    if bounds is None:
        return []
    lowest = {"entropy": bounds.min_entropy, "variation": bounds.min_variation}
    found = []
    for row in rows:
        if row["step"] < bounds.from_step:
            continue
        found += [Alarm(row["step"], name, row[name], bound) for name, bound in lowest.items() if row[name] < bound]
        if row["dead_atoms"] > bounds.max_dead_atoms:
            found.append(Alarm(row["step"], "dead_atoms", row["dead_atoms"], bounds.max_dead_atoms))
    return found


def bounds_of(config: Train, name: str) -> Alarms | None:
    """Alarms watch the basis: constants never vary, and a plain LoRA has no mix."""
    return config.alarms if name == "lorweb" else None


def first_alarms(rows: Sequence[Mapping[str, Any]], bounds: Alarms | None) -> list[Alarm]:
    """The first of each name."""
    firsts: dict[str, Alarm] = {}
    for alarm in alarms(rows, bounds):
        firsts.setdefault(alarm.name, alarm)
    return list(firsts.values())


def _asked(run: Run, chosen: ValidationSet) -> Tensor | None:
    """What the router hears of the held-out analogies [B, Q]; None without a mix or without analogies."""
    if not chosen.analogies:
        return None
    query_BQ = run.encoded.grid_batch([analogy.triple for analogy in chosen.analogies]).query_BQ
    return run.variant.asked(query_BQ.to(run.device))
