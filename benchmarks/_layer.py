"""Forward, and forward + backward, of linears that share one input: the cases of adapter.py and block.py.

Legend: B batch rows, S tokens, I in_features, O out_features, N LoRAs, Q query width.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from _measure import Claim, Contestant, Rounds, race
from _report import Row
from _rivals import PAPER, Field, give_mix, give_query
from torch import Tensor, nn

from lorweb.basis import BasisConfig, analogy, mix
from lorweb.basis.fold import fold

LIMIT_GB = 2.0  # an einsum from left to right that holds more at once is not run
KEPT = 4  # times its intermediate is held in training: itself, its product with e, and the gradients of both
SPARE = 1.20 / (1 + 2 * 128 / 3072)  # allowed beyond the FLOPs: 1.20 times the bare linear for N = 32, r = 4 at 3072
RIVALS = {"peft": 1.05, "einsum in order": 1.0, "einsum best path": 1.0}  # and the largest time against them


@dataclass(frozen=True)
class Case:
    """One input shape [batch, tokens, width] under one configuration, and `count` linears on it."""

    label: str
    batch: int
    tokens: int
    width: int
    count: int
    config: BasisConfig
    rounds: Rounds

    @property
    def name(self) -> str:
        loras = "" if self.config.n_loras == PAPER.n_loras else f", N {self.config.n_loras}"
        return f"{self.tokens} tokens, batch {self.batch}{loras}"

    @property
    def allowance(self) -> float:
        """Largest forward time against the bare linear: that of the FLOPs, 1 + K (I + O) / (I O), and what is spare."""
        return round(SPARE * (1 + 2 * self.config.total_rank / self.width), 3)

    @property
    def in_order_gb(self) -> float:
        """GB of [B, S, N, O], the intermediate of an einsum from left to right."""
        return self.batch * self.tokens * self.config.n_loras * self.width * 4 / 1e9


def forward(case: Case, made: Field) -> list[Row]:
    """Coefficients are ready for everyone: they are hoisted out of a denoising loop. No gradient."""
    x_BSI = torch.randn(case.batch, case.tokens, case.width)
    e_BLN = _mix(case, made)
    folded = copy.deepcopy(made.ours)
    fold(folded, made.query_BQ)
    models = {"bare": made.bare, "peft": made.peft, "ours": made.ours, "folded": folded, **_einsums(case, made, 1)}
    for model in (made.in_order, made.best_path):
        give_mix(model, e_BLN)
    claims = [Claim(f"{case.label} forward, {case.name}", "ours", "bare", case.allowance)]
    claims += _claims(case, "forward", models)
    claims += [Claim(f"{case.label} forward, folded, {case.name}", "folded", "bare", 1.02)]
    contestants = {name: Contestant(lambda model=model: model(x_BSI)) for name, model in models.items()}
    with torch.no_grad(), analogy(made.ours, mix=e_BLN):
        return race(contestants, case.rounds, claims)


def training(case: Case, made: Field, x_gradient: bool) -> list[Row]:
    """Forward + backward as in a training step: the router's share is in ours, and in the published way.

    "alone" is our layer with ready coefficients, which still get their gradient.
    """
    x_BSI = torch.randn(case.batch, case.tokens, case.width, requires_grad=x_gradient)
    dy_BSO = torch.randn(case.batch, case.tokens, case.width)
    query_BQ, e_BLN = made.query_BQ.expand(case.batch, -1).contiguous(), _mix(case, made).requires_grad_()

    def step(model: nn.Module) -> None:
        torch.autograd.backward(model(x_BSI), [dy_BSO] * case.count)

    def step_ours(**given: Tensor) -> None:
        with analogy(made.ours, **given):
            step(made.ours)

    def clear() -> None:
        for model in (made.ours, made.peft, made.in_order, made.best_path):
            model.zero_grad(set_to_none=True)
        x_BSI.grad = e_BLN.grad = None

    runs: dict[str, Callable[[], None]] = {
        "peft": lambda: step(made.peft),
        "ours": lambda: step_ours(query=query_BQ),
        "ours alone": lambda: step_ours(mix=e_BLN),
    }
    for name, model in _einsums(case, made, KEPT).items():
        give_query(model, query_BQ)
        runs[name] = lambda model=model: step(model)
    phase = f"forward + backward, x {'with' if x_gradient else 'without'} gradient"
    claims = _claims(case, phase, runs)
    claims += [Claim(f"{case.label} {phase}, layer alone, {case.name}", "ours alone", "peft", RIVALS["peft"])]
    rows = race({name: Contestant(run, before=clear) for name, run in runs.items()}, case.rounds, claims)
    clear()
    return rows


def _mix(case: Case, made: Field) -> Tensor:
    """The coefficients of the query, a row for each row of the batch."""
    with torch.no_grad():
        return mix(made.ours, made.query_BQ.expand(case.batch, -1))


def _claims(case: Case, phase: str, contestants: Iterable[str]) -> list[Claim]:
    name = f"{case.label} {phase}, {case.name}"
    return [Claim(name, "ours", rival, target) for rival, target in RIVALS.items() if rival in contestants]


def _einsums(case: Case, made: Field, times: int) -> dict[str, nn.Module]:
    found = {"einsum best path": made.best_path}
    needed = case.in_order_gb * times
    if needed <= LIMIT_GB:
        return {"einsum in order": made.in_order, **found}
    print(f"{case.label}, {case.name}: the einsum in order is not run, it needs {needed:.1f} GB at once")
    return found
