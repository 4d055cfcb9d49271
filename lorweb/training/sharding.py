"""Sharded training state: every worker keeps the moments of its own share of what is trained (ZeRO-1), and the
gradients of that share alone (ZeRO-2). The weights themselves stay whole on every worker.

A share is a set of whole parameters, and of pieces of the largest. So any optimiser that looks at one value, or at one
block of 8-bit moments, at a time computes what it would without sharding: zero1 ends with the very bits of none.
(torch's ZeroRedundancyOptimizer shares out whole parameters and gathers states as pickled objects.)
"""

import weakref
from collections.abc import Iterable, Mapping
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lorweb.training import reduce
from lorweb.training.entries import Sharding
from lorweb.training.pieces import Piece, cut, whole_pieces


def owners(pieces: list[Piece], workers: int) -> list[int]:
    """Rank of the worker that keeps each piece's state: the largest first, each to whoever has least so far.

    Raises:
        ValueError: more workers than pieces.
    """
    if workers > len(pieces):
        raise ValueError(
            f"{workers} workers cannot share the state of {len(pieces)} tensors; use fewer, or set train.sharding to "
            "none"
        )
    loads, found = [0] * workers, [0] * len(pieces)
    for index in sorted(range(len(pieces)), key=lambda index: -pieces[index].values.numel()):
        found[index] = loads.index(min(loads))
        loads[found[index]] += pieces[index].values.numel()
    return found


class Shards:
    """Who keeps what of the state of `parameters`; made once, in every worker alike. "none" keeps all of it everywhere.

    With zero2 the gradients leave the backward pass for their owner as they come, so that a worker never holds more
    than its share and the one at hand.
    """

    def __init__(self, kind: Sharding, parameters: Mapping[str, nn.Parameter]) -> None:
        self.rank, workers = reduce.world()
        self.parameters = dict(parameters)
        self.kind: Sharding = kind if workers > 1 else "none"
        self.pieces = whole_pieces(parameters) if self.whole else cut(parameters, workers)
        self.owner = [self.rank] * len(self.pieces) if self.whole else owners(self.pieces, workers)
        self._of: dict[str, list[tuple[Piece, int]]] = {name: [] for name in parameters}
        for piece, owner in zip(self.pieces, self.owner, strict=True):
            self._of[piece.of].append((piece, owner))
        self._arrived: dict[str, Tensor] = {}
        if self.kind == "zero2":
            for name, parameter in parameters.items():
                parameter.register_post_accumulate_grad_hook(partial(_hand_over, weakref.ref(self), name))

    @property
    def whole(self) -> bool:
        """Nothing is shared out."""
        return self.kind == "none"

    @property
    def mine(self) -> list[Piece]:
        """What this worker keeps the state of."""
        return [piece for piece, owner in zip(self.pieces, self.owner, strict=True) if owner == self.rank]

    def own(self, parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
        """What of some parameters this worker updates, in their order: its optimiser is made of it."""
        return [piece.values for name in parameters for piece, owner in self._of[name] if owner == self.rank]

    def clear_gradients(self) -> None:
        """No gradients, on any worker."""
        self._arrived.clear()
        for parameter in (*self.parameters.values(), *(piece.values for piece in self.mine)):
            parameter.grad = None

    def sum_gradients(self) -> None:
        """Sum over workers what backward has left; with zero2, each worker then has the gradients of its share."""
        if self.kind != "zero2":
            reduce.sum_gradients(self.parameters.values())
        for piece in [] if self.whole else self.mine:
            if self.kind == "zero2":  # as without sharding, no gradient counts as zero
                arrived = self._arrived.pop(piece.name, None)
                piece.values.grad = torch.zeros_like(piece.values) if arrived is None else arrived
            elif not piece.whole:
                gradient = self.parameters[piece.of].grad
                assert gradient is not None, f"{piece.of} has no gradient"
                piece.values.grad = gradient[piece.start : piece.stop]

    def norms(self, parts: Iterable[list[str]]) -> list[float]:
        """L2 norm of the gradients of each part, given by parameter names, over all workers; 0 of an empty part."""
        if self.kind != "zero2":
            gradients = [[self.parameters[name].grad for name in names] for names in parts]
            given = [[gradient for gradient in part if gradient is not None] for part in gradients]
            return [float(nn.utils.get_total_norm(part)) if part else 0.0 for part in given]
        each_P = torch.zeros(len(self.pieces), device=next(iter(self.parameters.values())).device)
        for index, piece in enumerate(self.pieces):
            if piece.values.grad is not None:
                each_P[index] = torch.linalg.vector_norm(piece.values.grad)
        reduce.sum_(each_P)
        found = [[index for index, piece in enumerate(self.pieces) if piece.of in named] for named in map(set, parts)]
        return [float(torch.linalg.vector_norm(each_P[indices])) for indices in found]

    def clip(self, limit: float, norm: float) -> None:
        """Scale all gradients down to the norm `limit` if theirs, `norm`, is above it."""
        pieces = [piece.values for piece in self.mine]  # with zero1 they are views of what the parameters have
        scaled = pieces if self.kind == "zero2" else self.parameters.values()
        nn.utils.clip_grads_with_norm_(scaled, limit, torch.tensor(norm))

    def spread(self) -> None:
        """Give every worker the weights that their owners have updated."""
        if self.whole:
            return
        flying = []
        for piece, owner in zip(self.pieces, self.owner, strict=True):
            weights = self.parameters[piece.of].data[piece.start : piece.stop]
            assert weights.data_ptr() == piece.values.data_ptr(), f"{piece.of} was replaced"
            flying.append(dist.broadcast(weights, src=owner, async_op=True))
        for broadcast in flying:
            broadcast.wait()

    def hand_over(self, name: str, parameter: Tensor) -> None:
        """Right after backward has added a gradient. All workers run the same graph, so that the order is the same."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None, f"{name} has no gradient"
        for piece, owner in self._of[name]:
            part = gradient[piece.start : piece.stop]
            dist.reduce(part, dst=owner)
            if owner == self.rank:
                before = self._arrived.get(piece.name)  # of an earlier micro-batch
                own = part if piece.whole else part.clone()  # not a view, which would keep the whole in memory
                self._arrived[piece.name] = own if before is None else before.add_(own)


def _hand_over(shards: "weakref.ref[Shards]", name: str, parameter: Tensor) -> None:
    """A hook that does not keep alive whose it is: through its parameters that would be a circle, never freed."""
    alive = shards()
    if alive is not None:
        alive.hand_over(name, parameter)
