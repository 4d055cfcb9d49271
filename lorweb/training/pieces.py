"""Rows of large parameters, so that workers can share out evenly what belongs to one: the stacked projections of all
layers are a sixth of what is trained at paper scale.

A piece ends where a block of 8-bit moments ends, so that an optimiser makes of pieces what it makes of the whole.
Checkpoints know no pieces: their state is put together before it is written.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

GRAIN: Final = 4096  # values; 8-bit optimisers leave smaller tensors in float32, and cut larger ones into equal blocks
_PER_WORKER: Final = 8  # pieces that a fair share is cut into: an eighth is how uneven shares may get
_ROWS: Final = ("exp_avg", "exp_avg_sq", "state1", "state2", "exp_avg:codes", "exp_avg_sq:codes")
_BLOCKS: Final = ("absmax1", "absmax2", "exp_avg:scale", "exp_avg_sq:scale")  # of AdamW by torchao and bitsandbytes


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of the `rows` of one parameter; `values` is a view of them, or the parameter itself."""

    of: str  # name of the parameter
    start: int
    stop: int
    rows: int
    values: nn.Parameter

    @property
    def whole(self) -> bool:
        return self.stop - self.start == self.rows

    @property
    def name(self) -> str:
        return self.of if self.whole else f"{self.of}[{self.start}:{self.stop}]"

    def taken(self, slot: str, stored: Tensor) -> Tensor:
        """Its part of what a checkpoint holds of the whole parameter."""
        if self.whole or slot not in (*_ROWS, *_BLOCKS):
            return stored
        return stored[self.start * len(stored) // self.rows : self.stop * len(stored) // self.rows]


def whole_pieces(parameters: Mapping[str, nn.Parameter]) -> list[Piece]:
    """Every parameter as one piece."""
    return [Piece(name, 0, len(parameter), len(parameter), parameter) for name, parameter in parameters.items()]


def cut(parameters: Mapping[str, nn.Parameter], workers: int) -> list[Piece]:
    """Parameters in pieces of about an eighth of a worker's fair share at most, as far as `GRAIN` allows."""
    largest = sum(parameter.numel() for parameter in parameters.values()) / workers / _PER_WORKER
    found = []
    for piece in whole_pieces(parameters):
        ends = _ends(piece, largest)
        found += [
            Piece(piece.of, start, stop, piece.rows, piece.values if len(ends) == 2 else _view(piece, start, stop))
            for start, stop in pairwise(ends)
        ]
    return found


def merged(tensors: Mapping[str, Tensor], pieces: list[Piece]) -> dict[str, Tensor]:
    """The state of whole parameters from that of pieces; keys are optimizer/<name of piece or parameter>/<slot>."""
    by_name = {piece.name: piece for piece in pieces}
    parts: dict[tuple[str, str], dict[int, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        name, slot = key.removeprefix("optimizer/").rsplit("/", 1)
        parts[by_name[name].of, slot][by_name[name].start] = tensor
    return {f"optimizer/{name}/{slot}": _joined(slot, found) for (name, slot), found in parts.items()}


def _joined(slot: str, by_start: Mapping[int, Tensor]) -> Tensor:
    ordered = [by_start[start] for start in sorted(by_start)]
    return torch.cat(ordered) if len(ordered) > 1 and slot in (*_ROWS, *_BLOCKS) else ordered[0]


def _ends(piece: Piece, largest: float) -> list[int]:
    """Rows at which the pieces of a whole parameter begin and end."""
    size = piece.values.numel()
    if size <= largest or size % GRAIN:
        return [0, piece.rows]
    width = size // piece.rows
    step = GRAIN // math.gcd(GRAIN, width)  # rows
    step *= max(1, int(largest / (step * width)))
    return [*range(0, piece.rows, step), piece.rows]


def _view(piece: Piece, start: int, stop: int) -> nn.Parameter:
    return nn.Parameter(piece.values.data[start:stop])
