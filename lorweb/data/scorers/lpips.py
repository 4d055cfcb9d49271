"""LPIPS (Zhang et al. 2018), from weights that the user gives as one safetensors file.

The packages that carry LPIPS need torchvision for its backbone and read pickled weights; the network itself is five
stages of plain convolutions, so it stands here. Their numbers are the oracle of the tests.

Legend: B batch, C channels, H W pixels or cells.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from lorweb.data.manifest import file_sha256
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import Known, PairImages, Scored, ScorerFacts
from lorweb.data.scorers.entries import LpipsConfig
from lorweb.data.scorers.folders import device_for, weights_file
from lorweb.records import stable_id

VERSION: Final = 1  # goes up when the same weights would give other scores
# Convolutions (channels, kernel, stride, padding) with a ReLU behind each; a lone number is the kernel of max pooling.
Part = tuple[int, int, int, int] | int
_ALEX: Final[tuple[Part, ...]] = (
    *((64, 11, 4, 2), 3, (192, 5, 1, 2), 3),
    *((384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
)
_VGG_WIDTHS: Final = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # 0: pooling
_VGG: Final[tuple[Part, ...]] = tuple((width, 3, 1, 1) if width else 2 for width in _VGG_WIDTHS)
_STAGES: Final = {"alex": (_ALEX, (1, 4, 7, 9, 11)), "vgg": (_VGG, (3, 8, 15, 22, 29))}  # ReLUs that are compared
_LEAST: Final = {"alex": 31, "vgg": 16}  # px, the smallest side that reaches the last stage
_SHIFT: Final = (-0.030, -0.088, -0.188)
_SCALE: Final = (0.458, 0.448, 0.450)
_EPS: Final = 1e-10
_FIRST: Final = "features.0.weight"


class Lpips(nn.Module):
    """The network: keys of the backbone as in torchvision (`features.0.weight`), of the heads as in LPIPS
    (`lin0.model.1.weight` [1, C, 1, 1]).
    """

    def __init__(self, net: str) -> None:
        super().__init__()
        parts, self._taps = _STAGES[net]
        layers: list[nn.Module] = []
        channels = 3
        widths: list[int] = []
        for part in parts:
            if isinstance(part, int):
                layers.append(nn.MaxPool2d(part, 2))
                continue
            layers += [nn.Conv2d(channels, part[0], part[1], part[2], part[3]), nn.ReLU()]
            channels = part[0]
            if len(layers) - 1 in self._taps:
                widths.append(channels)
        self.features = nn.Sequential(*layers)
        for stage, width in enumerate(widths):
            self.add_module(f"lin{stage}", _Head(width))
        self.register_buffer("shift", torch.tensor(_SHIFT)[None, :, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[None, :, None, None], persistent=False)

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        """Distances [B], 0 and up, of images in -1..1."""
        total = torch.zeros(len(x_BCHW), device=x_BCHW.device)
        u, v = ((image - self.shift) / self.scale for image in (x_BCHW, y_BCHW))
        stage = 0
        for place, layer in enumerate(self.features):
            u, v = layer(u), layer(v)
            if place in self._taps:
                head = getattr(self, f"lin{stage}").model[1].weight
                total = total + (head * (_unit(u) - _unit(v)).square()).sum(1).mean((1, 2))
                stage += 1
        return total


class _Head(nn.Module):
    """One weight per channel; the nesting is that of the published key, model.1 after a dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))


def _unit(x_BCHW: Tensor) -> Tensor:
    return x_BCHW / (x_BCHW.square().sum(1, keepdim=True).sqrt() + _EPS)


def read_lpips(net: str, file: Path) -> Lpips:
    """The network with its weights; further keys, such as a classifier's, are left aside.

    Raises:
        ValueError: a key is missing or has another shape; names the first.
    """
    model: Any = Lpips(net)
    tensors = load_file(file)
    for key, wanted in model.state_dict().items():
        have = list(tensors[key].shape) if key in tensors else "missing"
        if have != list(wanted.shape):
            raise ValueError(
                f"{file}: '{key}' is {have}, expected {list(wanted.shape)} of LPIPS '{net}'; docs/data_scorers.md says "
                "how to make the file"
            )
    model.load_state_dict({key: tensors[key].float() for key in model.state_dict()})
    network: Lpips = model.eval().requires_grad_(False)
    return network


def net_of(file: Path) -> Literal["alex", "vgg"]:
    """Which backbone a weights file holds, from the shape of its first convolution. Raises ValueError: neither."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        shape = list(tensors.get_slice(_FIRST).get_shape()) if _FIRST in tensors.keys() else None  # noqa: SIM118
    for net in ("alex", "vgg"):
        parts: Any = _STAGES[net][0][0]
        if shape == [parts[0], 3, parts[1], parts[1]]:
            return net
    raise ValueError(
        f"{file}: '{_FIRST}' is {shape}, of neither AlexNet nor VGG; docs/data_scorers.md says how to make the file"
    )


def least_side(net: Literal["alex", "vgg"]) -> int:
    """The smallest side, px, of images that the network can compare."""
    return _LEAST[net]


def image_tensor(image: Image.Image) -> Tensor:
    """[1, 3, H, W] in -1..1 of an RGB image."""
    return torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]


class LpipsScorer(Known):
    """`lpips`: the distance of a' to a, in the images' own size."""

    def __init__(self, cfg: LpipsConfig, facts: ScorerFacts) -> None:
        super().__init__(facts)
        self._device, self._least = device_for(cfg.pool.gpus), _LEAST[cfg.net]
        self._net: Any = read_lpips(cfg.net, weights_file("lpips", cfg.weights, _what(cfg))).to(self._device)

    def __call__(self, pairs: Sequence[PairImages]) -> list[Scored | Rejected]:
        """One answer per pair (check `not_comparable`: sizes that differ, or too small for the network)."""
        return [self._one(pair) for pair in pairs]

    def _one(self, pair: PairImages) -> Scored | Rejected:
        if pair.before.size != pair.after.size:
            return Rejected("not_comparable", f"a has {pair.before.size} px and a' {pair.after.size}; resize one")
        if min(pair.before.size) < self._least:
            reason = f"a side of {pair.before.size} px is too small for LPIPS"
            return Rejected("not_comparable", reason, min(pair.before.size), self._least)
        sides = (image_tensor(image).to(self._device) for image in (pair.before, pair.after))
        return Scored({"lpips": float(self._net(*sides)[0])})


def _what(cfg: LpipsConfig) -> str:
    return f"torchvision's {cfg.net} backbone and LPIPS' five linear heads"


def describe_lpips(cfg: LpipsConfig) -> ScorerFacts:
    """Facts of LPIPS. Raises FileNotFoundError or ValueError where its weights are not there."""
    file = weights_file("lpips", cfg.weights, _what(cfg))
    read_lpips(cfg.net, file)
    return ScorerFacts("lpips", stable_id(VERSION, cfg.net, file_sha256(file)), ("lpips",))
