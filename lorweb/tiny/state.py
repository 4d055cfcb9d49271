"""Where pre-training stands: step, weights, moments and the moving average, in one safetensors file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass
class TrainState:
    """Steps done and the exponential moving average of every trained tensor."""

    step: int
    average: dict[str, Tensor]

    @torch.no_grad()
    def advance(self, parts: nn.Module, decay: float) -> None:
        """Count a step and move the average; early steps use a shorter memory so that the start is forgotten."""
        self.step += 1
        decay = min(decay, self.step / (self.step + 10))
        for name, parameter in parts.named_parameters():
            self.average[name].lerp_(parameter, 1 - decay)


def load_state(folder: Path, parts: nn.Module, optimizer: Any) -> TrainState:
    """Fill model and optimiser from the newest state of a folder; a fresh state where there is none."""
    path = folder / "state.safetensors"
    fresh = TrainState(0, {name: p.detach().clone() for name, p in parts.named_parameters()})
    if not path.is_file():
        return fresh
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        with torch.no_grad():
            for name, parameter in parts.named_parameters():
                parameter.copy_(file.get_tensor(f"weights.{name}"))
                fresh.average[name] = file.get_tensor(f"average.{name}")
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": file.get_tensor(f"first.{name}"),
                    "exp_avg_sq": file.get_tensor(f"second.{name}"),
                }
    return TrainState(step, fresh.average)


def save_state(folder: Path, state: TrainState, parts: nn.Module, optimizer: Any) -> None:
    """Atomic."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, parameter in parts.named_parameters():
        moments = optimizer.state[parameter]
        tensors[f"weights.{name}"] = parameter.detach()
        tensors[f"average.{name}"] = state.average[name]
        tensors[f"first.{name}"] = moments["exp_avg"]
        tensors[f"second.{name}"] = moments["exp_avg_sq"]
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    temporary = folder / "state.safetensors.tmp"
    save_file(tensors, temporary, metadata={"step": str(state.step)})
    temporary.replace(folder / "state.safetensors")
