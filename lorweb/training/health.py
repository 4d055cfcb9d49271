"""Is the router alive? Numbers that show a basis collapsing into one static LoRA while the loss still falls."""

from dataclasses import asdict

import torch
from torch import Tensor

from lorweb.basis import has_mix, mix
from lorweb.basis.health import Health, health, mix_health
from lorweb.training.step import Run
from lorweb.training.validation import ValidationSet


@torch.no_grad()
def router_health(run: Run, chosen: ValidationSet) -> dict[str, float]:
    """`MixHealth` of the held-out analogies, by field; {} for variants without a mix."""
    query_BQ = _queries(run, chosen)
    return {} if query_BQ is None else asdict(mix_health(mix(run.variant.transformer, query_BQ)))


@torch.no_grad()
def basis_health(run: Run, chosen: ValidationSet) -> Health | None:
    """Every layer of the trained basis, on the queries of the held-out analogies; None for variants without a mix."""
    query_BQ = _queries(run, chosen)
    return None if query_BQ is None else health(run.variant.transformer, query_BQ)


def _queries(run: Run, chosen: ValidationSet) -> Tensor | None:
    if not has_mix(run.variant.transformer) or not chosen.analogies:
        return None
    return run.encoded.grid_batch([analogy.triple for analogy in chosen.analogies]).query_BQ.to(run.device)
