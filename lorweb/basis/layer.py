"""Eq. 5 round one linear layer: y = W0 x + sum_i e_i B_i A_i x, as two GEMMs and one broadcast multiply.

Legend: B batch rows, S tokens, P = B * S, M tokens of an internal query, I in_features, O out_features,
K = N * r total rank, N LoRAs of rank r, D key width.
"""

import math
import weakref
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorweb.basis.config import BasisConfig
from lorweb.basis.internal import pool
from lorweb.basis.router import coefficients, project


class Session:
    """One open analogy. It lives as long as a graph that was built under it, and `active` says if it is still open."""

    def __init__(self) -> None:
        self.active = True

    def close(self) -> None:
        """The analogy is over; graphs that were built under it may live on."""
        self.active = False


@dataclass(frozen=True)
class OwnQuery:
    """What a layer needs to ask for itself (internal queries): its keys and projection, and the strength."""

    keys_ND: Tensor
    projection_DI: Tensor | None
    config: BasisConfig
    strength: float

    def coefficients(self, x: Tensor, tokens_M: Tensor | None) -> Tensor:
        """e [B, N], float32, strength included, for a layer input [B, S, I] or [B, I] (Eq. 3 and 4)."""
        with torch.autocast(x.device.type, enabled=False):
            q_BD = project(pool(x, tokens_M, self.config.pooling or "avg"), self.projection_DI)
            return coefficients(q_BD[:, None], self.keys_ND[None], self.config)[:, 0] * self.strength


class BasisLinear(nn.Module):
    """A linear layer with a basis of N LoRAs; without an analogy it is its base, bit for bit.

    Works round any module with `in_features` and `out_features` (quantised linears too). Row `i*r + j` of `A` and
    column `i*r + j` of `B` belong to component j of LoRA i: A is [K, I], B is [O, K].
    """

    def __init__(self, base: nn.Module, config: BasisConfig) -> None:
        super().__init__()
        self.base = base
        self.rank = config.rank
        somewhere = next(chain(base.parameters(), base.buffers()), None)
        device = torch.device("cpu") if somewhere is None else somewhere.device
        self.A = nn.Parameter(torch.empty(config.total_rank, self.in_features, device=device))
        self.B = nn.Parameter(torch.empty(self.out_features, config.total_rank, device=device))
        # Set by lorweb.basis.analogy. Held per layer, not looked up by layer number: torch.compile then sees the same
        # code for every block and compiles it once.
        self.e_BK: Tensor | None = None
        self.own_query: OwnQuery | None = None  # with internal queries, in the place of e_BK
        self.tokens_M: Tensor | None = None  # the tokens that an internal query pools; None: all
        self.session: weakref.ref[Session] | None = None  # the innermost open one
        self.last_session: weakref.ref[Session] | None = None  # of the last forward that autograd did not run again
        self.recomputed_in = -1  # the backward pass that last ran this layer again
        self.unfolded: Tensor | None = None  # the base's own weight while lorweb.basis.fold.fold is in place

    @property
    def folded(self) -> bool:
        """An analogy is folded into the base's weight."""
        return self.unfolded is not None

    def initialise(self, generator: torch.Generator) -> None:
        """B = 0 makes the layer the identity; A is Kaiming uniform (a = sqrt(5)) over [N, I, r]: its fan-in is I*r."""
        bound = 1.0 / math.sqrt(self.in_features * self.rank)
        with torch.no_grad():
            self.A.copy_(torch.empty(self.A.shape).uniform_(-bound, bound, generator=generator))
            self.B.zero_()

    @property
    def in_features(self) -> int:
        """I, the base's."""
        return int(self.base.in_features)

    @property
    def out_features(self) -> int:
        """O, the base's."""
        return int(self.base.out_features)

    @property
    def weight(self) -> Tensor:
        """The base's weight: diffusers asks layers for its dtype and device."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base's bias [O], or None."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [B, I] or [B, S, I] -> [B, O] or [B, S, O] in the base's output dtype.

        The coefficients are float32; the GEMMs run in the basis' own dtype, or in autocast's where that is on. A batch
        that is a multiple of the analogies repeats them as `torch.cat([latents] * 2)` repeats latents (guidance).

        Raises:
            ValueError: x has another number of axes, or its batch is no multiple of the number of analogies.
            RuntimeError: gradient checkpointing runs this again after the analogy was closed.
        """
        e_BK = self._coefficients(x)
        if not torch.compiler.is_compiling():
            self._note_forward(e_BK is not None)
        if e_BK is None:
            return self.base(x)
        if x.ndim not in (2, 3):
            raise ValueError(
                f"a layer with a basis takes [batch, width] or [batch, tokens, width], got {tuple(x.shape)}"
            )
        # autocast casts the GEMMs itself: casting x up first would only make it cast down again
        autocast = torch.is_autocast_enabled(x.device.type)
        h = F.linear(x if autocast else x.to(self.A.dtype), self.A)
        e_BK = _rows(e_BK, len(x))
        h = (h * (e_BK if x.ndim == 2 else e_BK[:, None])).to(h.dtype)
        if autocast or h.dtype != x.dtype or not _owns_output(self.base):
            y = self.base(x)
            return y + F.linear(h, self.B).to(y.dtype)
        y_PO = self.base(x.reshape(-1, self.in_features))  # flat: the whole of y, and not a view, takes the sum
        return y_PO.addmm_(h.view(-1, h.shape[-1]), self.B.T).view(*x.shape[:-1], self.out_features)

    def _note_forward(self, under_analogy: bool) -> None:
        """Keep apart what autograd runs again (gradient checkpointing) from what it runs for the first time.

        Raises:
            RuntimeError: this is run again without the analogy under which it ran first.
        """
        task = torch._C._current_graph_task_id()
        if task == -1:
            session = self.session if under_analogy else None
            if self.last_session is not session:  # setting an attribute of a module costs a microsecond
                self.last_session = session
            return
        self.recomputed_in = task
        last = None if self.last_session is None else self.last_session()
        if not under_analogy and last is not None and not last.active:
            raise RuntimeError(CLOSED)

    def _coefficients(self, x: Tensor) -> Tensor | None:
        """e [B, K] of Eq. 4, each coefficient r times; None where no analogy is open."""
        if self.own_query is None:
            return self.e_BK
        return self.own_query.coefficients(x, self.tokens_M).repeat_interleave(self.rank, dim=1)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles carry the parameters, never an analogy that happens to be open."""
        closed = dict.fromkeys(("e_BK", "own_query", "tokens_M", "session", "last_session"))
        return {**self.__dict__, **closed}


def _rows(e_BK: Tensor, batch: int) -> Tensor:
    """The coefficients of every row of the batch."""
    if len(e_BK) == batch:
        return e_BK
    if batch % len(e_BK):
        raise ValueError(
            f"the batch has {batch} rows for {len(e_BK)} analogies; "
            "give one analogy, one for each row, or a number that divides the rows"
        )
    return e_BK.repeat(batch // len(e_BK), 1)


def _owns_output(base: nn.Module) -> bool:
    """Nobody else keeps what a plain linear returns; any other module may return its input, or what it needs later."""
    return type(base) is nn.Linear and not base._forward_hooks and type(base.weight) is nn.Parameter


CLOSED = (
    "the analogy was closed before backward had ended, or backward ran inside another one, and gradient checkpointing "
    "runs the forward again in backward; call backward inside its own `with analogy(...):`"
)
