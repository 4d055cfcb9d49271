"""Weights, their average, and the state of any of our optimisers as one flat dict of tensors, and back.

model/<name>                       the trained value
ema/<name>                         its running average, where there is one
optimizer/<name>/<slot>            a moment or counter; what is no plain tensor is stored in parts:
optimizer/<name>/<slot>:number     a Python number
optimizer/<name>/<slot>:codes ...  of torchao's 8-bit moments what they consist of
group/<index>/<key>                what an optimiser learns of a whole group (Prodigy's step size)
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from lorweb.training.ema import Ema
from lorweb.training.pieces import Piece, whole_pieces

_LEARNT: Final = ("d", "d_max", "d_numerator", "k")  # keys of a group that change from step to step, and are no rate
_QUANTISED: Final = ("codes", "scale", "qmap", "signed")


def pack(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    ema: Ema | None = None,
    gathered: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Trained values, their average and the optimiser's state as one flat dict of CPU tensors.

    All of them are copies: files take no shared memory, and the next step may run while they are written.
    `gathered`: the moments, where several workers keep them; None: the optimiser has all of them.
    """
    tensors = {f"model/{name}": _copy(parameter) for name, parameter in parameters.items()}
    if ema is not None:
        tensors |= {f"ema/{name}": _copy(value) for name, value in ema.values.items()}
    tensors |= moments(whole_pieces(parameters), optimizer) if gathered is None else gathered
    for index, group in enumerate(optimizer.param_groups):
        tensors |= {f"group/{index}/{key}": _number(group[key]) for key in _LEARNT if key in group}
    return tensors


def moments(pieces: list[Piece], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser keeps of some pieces, by their names: see `lorweb.training.pieces.merged`."""
    tensors: dict[str, Tensor] = {}
    for piece in pieces:
        for slot, value in optimizer.state.get(piece.values, {}).items():
            tensors |= {f"optimizer/{piece.name}/{slot}{part}": tensor for part, tensor in _parts(value).items()}
    return tensors


def unpack(
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    ema: Ema | None = None,
    pieces: list[Piece] | None = None,
) -> None:
    """The inverse of `pack`: fills parameters, average and optimiser in place.

    `pieces`: what the optimiser updates, and takes the moments of; None: all parameters.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape.
    """
    _fill({name: parameter.data for name, parameter in parameters.items()}, _below("model", tensors))
    _fill(ema.values if ema else {}, _below("ema", tensors))
    stored: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in _below("optimizer", tensors).items():
        name, last = key.rsplit("/", 1)
        stored[name][last] = value
    _same_names(set(stored) - set(parameters), set())
    for piece in whole_pieces(parameters) if pieces is None else pieces:
        _fill_state(optimizer, piece, stored[piece.of])
    for key, value in _below("group", tensors).items():
        index, entry = key.split("/")
        optimizer.param_groups[int(index)][entry] = value.item()


def _fill_state(optimizer: torch.optim.Optimizer, piece: Piece, stored: Mapping[str, Tensor]) -> None:
    counts_on_device = bool(optimizer.defaults.get("fused"))  # torch's own rule: all others count on the CPU
    slots: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for last, value in stored.items():
        slot, _, part = last.partition(":")
        slots[slot][part] = piece.taken(last, value)
    for slot, parts in slots.items():
        device = piece.values.device if slot != "step" or counts_on_device else torch.device("cpu")
        optimizer.state[piece.values][slot] = _whole(parts, device)


def _below(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{kind}/"): value for name, value in tensors.items() if name.startswith(f"{kind}/")}


def _fill(targets: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    _same_names(set(stored), set(targets))
    for name, target in targets.items():
        if stored[name].shape != target.shape:
            raise ValueError(
                f"{name} has shape {tuple(stored[name].shape)} in the checkpoint, {tuple(target.shape)} in the model"
            )
        target.copy_(stored[name])


def _same_names(stored: set[str], expected: set[str]) -> None:
    odd = sorted(stored ^ expected)
    if odd:
        raise ValueError(
            f"checkpoint and model differ in {len(odd)} tensors, first {odd[:3]}; delete the checkpoint folder"
        )


def _parts(value: Any) -> dict[str, Tensor]:
    """What one entry of an optimiser's state consists of, by the end of its name."""
    if not isinstance(value, Tensor):
        return {":number": _number(value)}
    if hasattr(value, "__tensor_flatten__"):
        return {f":{name}": _copy(torch.as_tensor(getattr(value, name))) for name in _QUANTISED}
    return {"": _copy(value)}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _number(value: float) -> Tensor:
    """A Python number without loss: float64 or int64."""
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)


def _whole(parts: Mapping[str, Tensor], device: torch.device) -> Any:
    """The inverse of `_parts`."""
    if "number" in parts:
        return parts["number"].item()
    if "codes" in parts:
        from torchao.optim.subclass_8bit import OptimState8bit

        codes, scale, qmap = (parts[name].to(device, copy=True) for name in _QUANTISED[:3])
        return OptimState8bit(codes, scale, qmap, bool(parts["signed"]))
    return parts[""].to(device, copy=True)
