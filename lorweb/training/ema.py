"""A running average of what is trained: it smooths the noise of the last steps, and never steers training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def ema_decay(decay: float, step: int) -> float:
    """Share of the old average that step number `step` (from 0) keeps: 0, then 2/11, 3/12, ... up to `decay`.

    The first steps count less, so that the untrained start does not hang in the average for 1 / (1 - decay) steps.
    """
    return min(decay, (1 + step) / (10 + step)) if step else 0.0


class Ema:
    """The average of some parameters, by name, in their own dtype and on their devices."""

    def __init__(self, decay: float, parameters: Mapping[str, nn.Parameter]) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Take in the weights that step number `step` (from 0) has left."""
        average = get_ema_multi_avg_fn(ema_decay(self.decay, step))
        average(list(self.values.values()), [parameters[name].data for name in self.values], None)

    @contextmanager
    def in_place_of(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """The model computes with the average; no step may be taken meanwhile. Nothing is copied."""
        self._swap(parameters)
        try:
            yield
        finally:
            self._swap(parameters)

    def _swap(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, average in self.values.items():
            self.values[name], parameters[name].data = parameters[name].data, average


def new_ema(decay: float | None, parameters: Mapping[str, nn.Parameter]) -> Ema | None:
    """The average that `train.ema` asks for; None for none."""
    return None if decay is None else Ema(decay, parameters)
