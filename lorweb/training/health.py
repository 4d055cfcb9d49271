"""Is the router alive? Numbers that show a basis collapsing into one static LoRA while the loss still falls.

Legend: B analogies, L layers, N LoRAs.
"""

import torch

from lorweb.basis import mix
from lorweb.training.step import Run
from lorweb.training.validation import ValidationSet


@torch.no_grad()
def router_health(run: Run, chosen: ValidationSet) -> dict[str, float]:
    """Of the mix over held-out analogies; {} for variants without a router.

    effective_loras: exp of the mean entropy of |e| (1 = one LoRA does all, N = an even mix);
    mix_spread: standard deviation of e over the analogies, mean over layers and LoRAs (0 = the exemplar is ignored);
    unused_loras: share of (layer, LoRA) whose |e| never exceeds a tenth of an even share.
    """
    if not run.variant.router or not chosen.analogies:
        return {}
    batch = run.encoded.grid_batch([analogy.triple for analogy in chosen.analogies])
    e_BLN = mix(run.variant.transformer, batch.query_BQ.to(run.device)).double()
    share_BLN = e_BLN.abs() / e_BLN.abs().sum(-1, keepdim=True).clamp_min(1e-12)
    entropy = -torch.special.xlogy(share_BLN, share_BLN).sum(-1).mean()
    unused_LN = share_BLN.amax(0) < 0.1 / share_BLN.shape[-1]
    return {
        "effective_loras": float(entropy.exp()),
        "mix_spread": float(e_BLN.std(0, unbiased=False).mean()),
        "unused_loras": float(unused_LN.double().mean()),
    }
