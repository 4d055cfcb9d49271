"""Is the router alive? Numbers that show a basis collapsing into one static LoRA while the loss still falls."""

from dataclasses import asdict

import torch

from lorweb.basis import has_mix, mix
from lorweb.basis.health import mix_health
from lorweb.training.step import Run
from lorweb.training.validation import ValidationSet


@torch.no_grad()
def router_health(run: Run, chosen: ValidationSet) -> dict[str, float]:
    """`MixHealth` of the held-out analogies, by field; {} for variants without a mix."""
    if not has_mix(run.variant.transformer) or not chosen.analogies:
        return {}
    batch = run.encoded.grid_batch([analogy.triple for analogy in chosen.analogies])
    return asdict(mix_health(mix(run.variant.transformer, batch.query_BQ.to(run.device))))
