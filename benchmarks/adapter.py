"""One adapted linear layer: ours beside the bare linear, a PEFT LoRA of equal rank, and one einsum of four operands.

    python benchmarks/adapter.py [--width 3072] [--tokens 512] [--rounds 15] [--json FILE]

Rounds are interleaved, ratios are medians over rounds. Forward and forward + backward of the adapter.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from lorweb.basis import BasisConfig, add_basis, analogy

N, R, KEY, QUERY = 32, 4, 128, 2304
TARGETS = {"bare": 1.20, "peft": 1.05, "einsum": 1.0}  # largest allowed ratio ours / rival


class OneLayer(nn.Module):
    """The smallest model that `add_basis` accepts: one linear in a block list."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList([nn.Sequential(linear)])

    def forward(self, x: Tensor) -> Tensor:
        return self.transformer_blocks[0](x)


class Einsum(nn.Module):
    """y = W x + sum_n e_n B_n A_n x as one contraction of four operands."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.A_NIR = nn.Parameter(torch.randn(N, linear.in_features, R) * 0.01)
        self.B_NRO = nn.Parameter(torch.randn(N, R, linear.out_features) * 0.01)

    def forward(self, x_BSI: Tensor, e_BN: Tensor) -> Tensor:
        return self.linear(x_BSI) + torch.einsum("bsi,nir,nro,bn->bso", x_BSI, self.A_NIR, self.B_NRO, e_BN)


def contestants(width: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Callables x -> y on equal frozen weights, and the parameters to differentiate by name."""
    torch.manual_seed(0)
    linear = nn.Linear(width, width).requires_grad_(False)
    ours, lora = OneLayer(_copy(linear)), OneLayer(_copy(linear))
    config = BasisConfig(
        n_loras=N, rank=R, key_dim=KEY, query_dim=QUERY, heads=1, activation="softmax", reduce="mean",
        projection="linear", query_mode="cat-aa'b", targets=("transformer_blocks.*",),
    )  # fmt: skip
    add_basis(ours, config, seed=0)
    inject_adapter_in_model(LoraConfig(r=N * R, lora_alpha=N * R, target_modules=r".*transformer_blocks\.0\.0"), lora)
    einsum, bare = Einsum(_copy(linear)), _copy(linear)
    query_BQ, e_BN = torch.randn(1, QUERY), torch.softmax(torch.randn(1, N), dim=-1)

    def run_ours(x: Tensor) -> Tensor:
        with analogy(ours, query=query_BQ):
            return ours(x)

    return {"ours": run_ours, "bare": bare, "peft": lora, "einsum": lambda x: einsum(x, e_BN)}


def _copy(linear: nn.Linear) -> nn.Linear:
    twin = nn.Linear(linear.in_features, linear.out_features).requires_grad_(False)
    twin.load_state_dict(linear.state_dict())
    return twin


def measure(models: dict[str, Callable[[Tensor], Tensor]], x: Tensor, rounds: int, backward: bool) -> dict[str, list]:
    """Seconds of every round by contestant; a first round warms up and is dropped."""
    seconds: dict[str, list] = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            with torch.set_grad_enabled(backward):
                y = model(x)
            if backward and y.requires_grad:
                y.sum().backward()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def rows(seconds: dict[str, list], phase: str) -> list[dict]:
    """The machine-readable form of every benchmark here."""
    found = []
    for rival, target in TARGETS.items():
        if phase != "forward" and rival == "bare":
            continue  # a frozen linear has no backward of its own
        ratios = [ours / other for ours, other in zip(seconds["ours"], seconds[rival], strict=True)]
        ratio = statistics.median(ratios)
        found.append(
            {"name": f"adapter {phase}", "rival": rival, "ratio": round(ratio, 3), "target": target,
             "met": ratio <= target, "unit": "ours/rival, time", "n": len(ratios)}
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=3072)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    models, x = contestants(given.width), torch.randn(1, given.tokens, given.width)
    found = rows(measure(models, x, given.rounds, backward=False), "forward")
    found += rows(measure(models, x, given.rounds, backward=True), "forward+backward")
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{given.width} -> {given.width}, {given.tokens} tokens, N {N}, r {R}, float32")
    for row in found:
        print(f"{row['name']:>25} / {row['rival']:<7} {row['ratio']:.3f}  (target <= {row['target']})")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
