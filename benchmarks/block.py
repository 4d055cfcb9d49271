"""The query, key and value linears of an attention block, which share their input.

    python benchmarks/block.py [--quick] [--json FILE]
    python benchmarks/block.py --width 3072 --tokens 512 4096 --batch 1 --seconds 15

Three wrapped linears beside PEFT on the three, the three bare ones, and the published way on the three; forward, and
forward + backward with x requiring a gradient, as inside a model, and without one, as in its first block.
"""

from collections.abc import Sequence

from _layer import Case, forward, training
from _measure import Rounds
from _report import parser, start, write
from _rivals import PAPER, shared_input


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, __file__)
    options.add_argument("--width", type=int, default=3072)
    options.add_argument("--tokens", type=int, nargs="+", help="default: 512 4096; with --quick 512")
    options.add_argument("--batch", type=int, nargs="+", default=[1])
    options.add_argument("--seconds", type=float, help="of each case, at least; default: 15; with --quick 6")
    given = options.parse_args(argv)
    start(given)
    seconds = (6 if given.quick else 15) if given.seconds is None else given.seconds
    rounds = Rounds(3 if given.quick else 7, 41, seconds)
    rows = []
    for tokens in given.tokens or ([512] if given.quick else [512, 4096]):
        for batch in given.batch:
            case = Case("q, k, v", batch, tokens, given.width, 3, PAPER, rounds)
            made = shared_input(given.width, 3, PAPER)
            rows += forward(case, made)
            rows += training(case, made, x_gradient=False) + training(case, made, x_gradient=True)
    write(rows, given)


if __name__ == "__main__":
    main()
