"""A whole denoising run of 28 steps: the base, a folded analogy, a live mix, PEFT, and the published way.

    python benchmarks/denoise.py [--quick] [--json FILE]
    python benchmarks/denoise.py --heads 8 --tokens 1024 --steps 28 --rounds 5

A stock FluxTransformer2DModel of random weights with heads of 128 as FLUX.1's, wide enough that the linears dominate,
one double and two single blocks, in Euler steps from noise. Folding includes the router, the fold and the unfold. The
live mix is computed once for the run. Steps of all runs are interleaved. The published way asks, mixes and contracts
again in every layer at every step.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from _measure import Claim, Contestant, Rounds, finish, race
from _report import parser, start, write
from _rivals import PAPER, Field, field, give_query
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lorweb.basis import analogy
from lorweb.basis.fold import folded

TEXT, CHANNELS, JOINT, POOLED = 64, 64, 256, 128  # text tokens, channels of an image token, widths of text embeddings
SPARE = 1.20 / (1 + 2 * 128 / 3072)  # what one layer may cost beyond its FLOPs, see _layer.py
SLOW = "published in order"  # three times the others: it races apart, in fewer rounds
CLAIMS = (  # contestant, rival, largest ratio
    ("folded", "base", 1.02),
    ("folded", SLOW, 0.80),
    ("folded", "published best path", 0.80),
    ("live mix", "peft", 1.05),
    ("live mix", SLOW, 1.0),
    ("live mix", "published best path", 1.0),
)


def transformer(heads: int) -> nn.Module:
    """A stock FLUX transformer of width heads * 128, with random weights."""
    from diffusers import FluxTransformer2DModel

    made: nn.Module = FluxTransformer2DModel(
        in_channels=CHANNELS,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=128,
        num_attention_heads=heads,
        joint_attention_dim=JOINT,
        pooled_projection_dim=POOLED,
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )
    return made.eval()


def inputs(tokens: int) -> dict[str, Tensor]:
    """A control grid, text and positions; `tokens` image tokens, half of them noisy and half of them control."""
    ids = torch.zeros(tokens, 3)
    ids[tokens // 2 :, 0] = 1.0
    ids[:, 2] = torch.arange(tokens) % (tokens // 2)
    return {
        "control": torch.randn(1, tokens // 2, CHANNELS),
        "encoder_hidden_states": torch.randn(1, TEXT, JOINT),
        "pooled_projections": torch.randn(1, POOLED),
        "guidance": torch.full((1,), 2.5),
        "img_ids": ids,
        "txt_ids": torch.zeros(TEXT, 3),
    }


def denoise(model: nn.Module, given: dict[str, Tensor], noise_BLD: Tensor, steps: int) -> Iterator[Tensor]:
    """Euler steps of the rectified flow from t = 1 to 0; only the noisy tokens of the prediction count."""
    rest = {name: value for name, value in given.items() if name != "control"}
    z_BLD = noise_BLD
    for t, following in pairwise(torch.linspace(1.0, 0.0, steps + 1)):
        seen = torch.cat([z_BLD, given["control"]], dim=1)
        v_BLD = model(hidden_states=seen, timestep=t.expand(1), return_dict=False, **rest)[0]
        z_BLD = z_BLD + (following - t) * v_BLD[:, : z_BLD.shape[1]]
        yield z_BLD


def contestants(made: Field, tokens: int, steps: int) -> dict[str, Callable[[], Iterator[Tensor]]]:
    """One denoising run each, from the same noise, latents [B, L, D] step by step."""
    given, noise_BLD = inputs(tokens), torch.randn(1, tokens // 2, CHANNELS)
    to_fold = copy.deepcopy(made.ours)  # a model of its own: steps of the live mix run between its steps

    def run(model: nn.Module) -> Iterator[Tensor]:
        return denoise(model, given, noise_BLD, steps)

    def run_folded() -> Iterator[Tensor]:
        with folded(to_fold, made.query_BQ):
            yield from run(to_fold)

    def run_live() -> Iterator[Tensor]:
        with analogy(made.ours, made.query_BQ):
            yield from run(made.ours)

    for model in (made.in_order, made.best_path):
        give_query(model, made.query_BQ)
    return {
        "base": lambda: run(made.bare),
        "folded": run_folded,
        "live mix": run_live,
        "peft": lambda: run(made.peft),
        "published in order": lambda: run(made.in_order),
        "published best path": lambda: run(made.best_path),
    }


def flops(run: Callable[[], Iterator[Tensor]]) -> int:
    """Of one run; attention as plain products, because the counter does not know the CPU's fused kernel."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        finish(run)
    return int(counter.get_total_flops())


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, __file__)
    options.add_argument("--heads", type=int, default=8, help="of 128 each: the width is heads * 128")
    options.add_argument("--tokens", type=int, default=1024, help="image tokens, control included")
    options.add_argument("--steps", type=int, default=28)
    options.add_argument("--rounds", type=int, help="default: 5; with --quick 1, and without the einsum in order")
    given = options.parse_args(argv)
    start(given)
    steps, tokens, width = given.steps, given.tokens, given.heads * 128
    made = field(transformer(given.heads), PAPER)
    runs, one_step = contestants(made, tokens, steps), contestants(made, tokens, 1)
    limit = flops(one_step["peft"]) / flops(one_step["base"])  # a live mix does the same products
    print(f"width {width}, {tokens} + {TEXT} tokens, {steps} steps; FLOPs with an adapter / base: {limit:.3f}")
    name = f"denoising, {steps} steps, width {width}, {tokens} tokens"
    claims = [Claim(f"{name}, {ours}", ours, rival, target) for ours, rival, target in CLAIMS]
    claims.append(Claim(f"{name}, live mix", "live mix", "base", round(SPARE * limit, 3)))
    entrants = {who: Contestant(run, warm=one_step[who]) for who, run in runs.items()}
    slow = {who: entrants[who] for who in (SLOW, "folded", "live mix")}
    del entrants[SLOW]
    count = given.rounds or (1 if given.quick else 5)
    with torch.no_grad():
        rows = race(entrants, Rounds(count, count, 0.0), [claim for claim in claims if claim.rival != SLOW])
        if not given.quick:
            count = min(count, 2)
            rows += race(slow, Rounds(count, count, 0.0), [claim for claim in claims if claim.rival == SLOW])
    write(rows, given)


if __name__ == "__main__":
    main()
