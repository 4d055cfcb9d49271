"""Sharded training state: every worker keeps the moments of its own share of what is trained (ZeRO-1), and the
gradients of that share alone (ZeRO-2). The weights themselves stay whole on every worker.

A share is a set of whole parameters. So any optimiser that looks at one parameter at a time computes what it would
without sharding, 8-bit moments in the same blocks, and zero1 ends with the very bits of none. (torch's
ZeroRedundancyOptimizer shares out the same way, but gathers states as pickled objects, which no checkpoint may hold.)
"""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lorweb.training import reduce
from lorweb.training.entries import Sharding


def owners(parameters: Mapping[str, nn.Parameter], workers: int) -> dict[str, int]:
    """Rank of the worker that keeps each parameter's state: the largest first, each to whoever has least so far.

    Raises:
        ValueError: more workers than parameters.
    """
    if workers > len(parameters):
        raise ValueError(
            f"{workers} workers cannot share the state of {len(parameters)} tensors; use fewer, or set train.sharding "
            "to none"
        )
    loads, found = [0] * workers, {}
    for name in sorted(parameters, key=lambda name: (-parameters[name].numel(), name)):
        found[name] = loads.index(min(loads))
        loads[found[name]] += parameters[name].numel()
    return found


class Shards:
    """Who keeps what of the state of `parameters`; made once, in every worker alike. None keeps all of it everywhere.

    With zero2 the gradients leave the backward pass for their owner as they come, so that a worker never holds more
    than its share and the one at hand.
    """

    def __init__(self, kind: Sharding, parameters: Mapping[str, nn.Parameter]) -> None:
        self.rank, workers = reduce.world()
        self.parameters = dict(parameters)
        self.kind: Sharding = kind if workers > 1 else "none"
        whole = self.kind == "none"
        self.owner = dict.fromkeys(parameters, self.rank) if whole else owners(parameters, workers)
        self._arrived: dict[str, Tensor] = {}
        if self.kind == "zero2":
            for name, parameter in parameters.items():
                parameter.register_post_accumulate_grad_hook(partial(self._hand_over, name))

    @property
    def whole(self) -> bool:
        """Nothing is shared out."""
        return self.kind == "none"

    def own(self, parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
        """Those of some parameters that this worker updates, in their order: what its optimiser is made of."""
        return [parameter for name, parameter in parameters.items() if self.owner[name] == self.rank]

    def clear_gradients(self) -> None:
        """No gradients, on any worker."""
        self._arrived.clear()
        for parameter in self.parameters.values():
            parameter.grad = None

    def sum_gradients(self) -> None:
        """Sum over workers what backward has left; with zero2, each worker then has the gradients of its share."""
        if self.kind != "zero2":
            reduce.sum_gradients(self.parameters.values())
            return
        for name in self._own_names():
            parameter = self.parameters[name]
            parameter.grad = self._arrived.pop(name, None)
            if parameter.grad is None:  # as without sharding: no gradient counts as zero
                parameter.grad = torch.zeros_like(parameter)

    def norms(self, parts: Iterable[Iterable[str]]) -> list[float]:
        """L2 norm of the gradients of each part, given by parameter names, over all workers; 0 of an empty part."""
        if self.kind != "zero2":
            gradients = [[self.parameters[name].grad for name in names] for names in parts]
            given = [[gradient for gradient in part if gradient is not None] for part in gradients]
            return [float(nn.utils.get_total_norm(part)) if part else 0.0 for part in given]
        index = {name: i for i, name in enumerate(self.parameters)}
        each_P = torch.zeros(len(index), device=next(iter(self.parameters.values())).device)
        for name in self._own_names():
            gradient = self.parameters[name].grad
            assert gradient is not None, "norms are asked for after sum_gradients"
            each_P[index[name]] = torch.linalg.vector_norm(gradient)
        reduce.sum_(each_P)
        return [float(torch.linalg.vector_norm(each_P[[index[name] for name in names]])) for names in map(list, parts)]

    def clip(self, limit: float, norm: float) -> None:
        """Scale all gradients down to the norm `limit` if theirs, `norm`, is above it."""
        nn.utils.clip_grads_with_norm_(self.parameters.values(), limit, torch.tensor(norm))

    def spread(self) -> None:
        """Give every worker the weights that their owners have updated."""
        if self.whole:
            return
        flying = [
            dist.broadcast(parameter.data, src=self.owner[name], async_op=True)
            for name, parameter in self.parameters.items()
        ]
        for broadcast in flying:
            broadcast.wait()

    def _own_names(self) -> list[str]:
        return [name for name, owner in self.owner.items() if owner == self.rank]

    def _hand_over(self, name: str, parameter: Tensor) -> None:
        """Right after backward has added a gradient. All workers run the same graph, so that the order is the same."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None, f"{name} has no gradient"
        dist.reduce(gradient, dst=self.owner[name])
        if self.owner[name] == self.rank:
            before = self._arrived.get(name)  # of an earlier micro-batch
            self._arrived[name] = gradient if before is None else before.add_(gradient)
