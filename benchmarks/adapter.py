"""One adapted linear layer of FLUX.1's width beside the bare linear, a PEFT LoRA of equal rank, and the einsum.

    python benchmarks/adapter.py [--quick] [--json FILE]
    python benchmarks/adapter.py --width 3072 --tokens 512 4096 --batch 1 4 --loras 8 64 --seconds 12

Forward with ready coefficients; forward + backward with the router, x with and without gradient; several N; and what a
call costs where the layer is so small that only Python is left. The einsum is shown in both orders that
torch.einsum takes: from left to right (without opt_einsum) and with the fewest operations (with it).
"""

import copy
import statistics
from collections.abc import Callable, Sequence

import torch
from _layer import Case, forward, training
from _measure import Claim, Contestant, Rounds, compare, interleaved
from _report import Row, parser, show, start, write
from _rivals import PAPER, shared_input

from lorweb.basis import analogy
from lorweb.basis.fold import fold

SMALL, CALLS = 64, 300  # width of a layer whose arithmetic is nothing, and its calls in one timed run


def sweep(loras: Sequence[int], tokens: int, width: int, rounds: Rounds) -> list[Row]:
    """The layer at several N, and how what it adds to the bare linear grows from the fewest LoRAs to the most."""
    x_BSI = torch.randn(1, tokens, width)
    rows: list[Row] = []
    ends = {}
    for n_loras in loras:
        case = Case("adapter", 1, tokens, width, 1, PAPER.model_copy(update={"n_loras": n_loras}), rounds)
        made = shared_input(width, 1, case.config)
        if n_loras != PAPER.n_loras:  # which has rows already
            rows += forward(case, made) + training(case, made, x_gradient=True)
        if n_loras in (min(loras), max(loras)):
            ends[n_loras] = made
    low, high = min(loras), max(loras)
    if low == high:
        return rows
    contestants = {"bare": Contestant(lambda: ends[low].bare(x_BSI))}
    contestants |= {f"N {n}": Contestant(lambda ours=made.ours: ours(x_BSI)) for n, made in ends.items()}
    with torch.no_grad(), analogy(ends[low].ours, ends[low].query_BQ), analogy(ends[high].ours, ends[high].query_BQ):
        seconds = interleaved(contestants, rounds)
    added = {f"N {n}": [a - b for a, b in zip(seconds[f"N {n}"], seconds["bare"], strict=True)] for n in ends}
    name = f"adapter forward, time added to the bare linear, {tokens} tokens, batch 1"
    return [*rows, show(compare(added, Claim(name, f"N {high}", f"N {low}", high / low)))]


def calls(rounds: Rounds) -> list[Row]:
    """What Python adds to each call: a layer of width 64 on one token, beside PEFT in the same state. One thread."""
    x_BI = torch.randn(1, SMALL)
    made = shared_input(SMALL, 1, PAPER)
    fused, merged = copy.deepcopy(made.ours), copy.deepcopy(made.peft)
    fold(fused, made.query_BQ)
    for layer in merged.transformer_blocks:
        layer.merge()
    layers = {"bare": made.bare, "peft": made.peft, "peft merged": merged, "ours": made.ours, "folded": fused}

    def repeat(layer: Callable[[torch.Tensor], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                layer(x_BI)

        return run

    contestants = {name: Contestant(repeat(model.transformer_blocks[0])) for name, model in layers.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nothing here is worth a second one
    with torch.no_grad(), analogy(made.ours, made.query_BQ):
        seconds = interleaved(contestants, rounds)
    torch.set_num_threads(threads)
    bare_us = statistics.median(seconds["bare"]) / CALLS * 1e6
    rows = []
    for ours, rival in (("folded", "peft merged"), ("ours", "peft")):
        claim = Claim(f"adapter, a call of width {SMALL} on 1 token, {ours}", ours, rival, 1.05)
        rows.append(show(compare(seconds, claim, CALLS)))
        rows[-1]["added_us"] = round(rows[-1]["ms"] * 1e3 - bare_us, 2)
        print(f"{'':4}{ours} adds {rows[-1]['added_us']} us to a call of the bare linear ({bare_us:.2f} us)")
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, __file__)
    options.add_argument("--width", type=int, default=3072)
    options.add_argument("--tokens", type=int, nargs="+", help="default: 512 4096; with --quick 512")
    options.add_argument("--batch", type=int, nargs="+", help="default: 1 4; with --quick 1")
    options.add_argument("--loras", type=int, nargs="+", help="values of N; default: 8 16 64 128; with --quick 8 64")
    options.add_argument("--seconds", type=float, help="of each case, at least; default: 12; with --quick 4")
    given = options.parse_args(argv)
    start(given)
    seconds = (4 if given.quick else 12) if given.seconds is None else given.seconds
    rounds = Rounds(3 if given.quick else 7, 41, seconds)
    tokens = given.tokens or ([512] if given.quick else [512, 4096])
    rows: list[Row] = []
    for count in tokens:
        for batch in given.batch or ([1] if given.quick else [1, 4]):
            case = Case("adapter", batch, count, given.width, 1, PAPER, rounds)
            made = shared_input(given.width, 1, PAPER)
            rows += forward(case, made)
            rows += training(case, made, x_gradient=False) + training(case, made, x_gradient=True)
    rows += sweep(given.loras or ([8, 64] if given.quick else [8, 16, 64, 128]), tokens[0], given.width, rounds)
    rows += calls(rounds)
    write(rows, given)


if __name__ == "__main__":
    main()
