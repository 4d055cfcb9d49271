"""Weights and optimiser moments as one flat dict of tensors, and back."""

from collections.abc import Mapping

import torch


def pack(parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Trainable values and optimiser moments as one flat dict of CPU tensors."""
    tensors = {f"model/{name}": parameter.detach().cpu().contiguous() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for slot, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{slot}"] = value.detach().cpu().contiguous()
    return tensors


def unpack(
    tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """The inverse of `pack`: fills the parameters and the optimiser in place.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape.
    """
    stored = {name.removeprefix("model/") for name in tensors if name.startswith("model/")}
    if stored != set(parameters):
        odd = sorted(stored ^ set(parameters))
        raise ValueError(
            f"checkpoint and model differ in {len(odd)} tensors, first {odd[:3]}; delete the checkpoint folder"
        )
    for name, parameter in parameters.items():
        value = tensors[f"model/{name}"]
        if value.shape != parameter.shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} in the checkpoint, {tuple(parameter.shape)} in the model"
            )
        parameter.data.copy_(value)
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            name, slot = rest.rsplit("/", 1)
            device = parameters[name].device
            optimizer.state[parameters[name]][slot] = value.to(device, copy=True)
