"""Networks whose weights the user gives: true LPIPS, and directions in the features of CLIP, SigLIP or DINOv2.

Their metrics appear under their own names, and only where their weights are. The packaged stand-ins of
lorweb.evaluation.metrics are measured as well, always.

Legend: D features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from PIL import Image

from lorweb.data.manifest import file_sha256
from lorweb.data.scorers.base import Array
from lorweb.data.scorers.folders import in_turn, loaded, model_at, weights_file
from lorweb.data.scorers.sides import unit
from lorweb.data.scores import cosine, safety_revision
from lorweb.evaluation.entries import PACKAGED
from lorweb.kontext.files import base_revision
from lorweb.records import stable_id
from lorweb.storage.fetched import fetched

VERSION: Final = "1"  # goes up when the same weights would give other numbers
LPIPS_WEIGHTS: Final = "an AlexNet or VGG backbone and LPIPS' five linear heads"


class Images(Protocol):
    """The analogy that an answer belongs to."""

    @property
    def a(self) -> Image.Image: ...
    @property
    def a2(self) -> Image.Image: ...
    @property
    def b(self) -> Image.Image: ...
    @property
    def b2(self) -> Image.Image: ...


Measure = Callable[[Image.Image], dict[str, float]]
Backbone = Callable[[Images], Measure]
"""Looks at a question once, and then measures any number of answers to it: {metric: value}."""


@dataclass(frozen=True)
class Facts:
    """What is known of a backbone before it is loaded: its name, a hash of weights and preprocessing, its metrics."""

    name: str
    revision: str
    metrics: tuple[str, ...]


def describe(perceptual: str, direction: str, side: int) -> dict[str, Facts]:
    """{"perceptual": ..., "direction": ...} of two backbones as parameters name them (lorweb.evaluation.entries).

    `side`: px of the smaller side of the images that will be compared.

    Raises:
        FileNotFoundError, ValueError: weights that are missing, damaged or of another kind, or images too small for
            them; the sentence says what to do.
    """
    return {"perceptual": _describe_perceptual(perceptual, side), "direction": _describe_direction(direction)}


def load_backbones(perceptual: str, direction: str, device: str) -> list[Backbone]:
    """What is not packaged, loaded. Raises as `describe` does."""
    found: list[Backbone] = []
    if perceptual != PACKAGED:
        found.append(Lpips(lpips_file(perceptual), device))
    if direction != PACKAGED:
        kind, folder = _kind_and_folder(direction)
        found.append(Direction(f"{kind}_direction", _encoder(kind, folder, device), device))
    return found


class Lpips:
    """`lpips_to_truth` = LPIPS(b', true b'); `lpips_to_source` = LPIPS(b', b), which the paper calls LPIPS(b, b')."""

    def __init__(self, file: Path, device: str) -> None:
        from lorweb.data.scorers.lpips import net_of, read_lpips

        self._net: Any = read_lpips(net_of(file), file).to(device)
        self._device = device

    def __call__(self, question: Images) -> Measure:
        """The measure of answers of the size of b and of the truth."""
        import torch

        from lorweb.data.scorers.lpips import image_tensor

        fixed = {
            "lpips_to_truth": image_tensor(question.b2).to(self._device),
            "lpips_to_source": image_tensor(question.b).to(self._device),
        }

        def measure(answer: Image.Image) -> dict[str, float]:
            x = image_tensor(answer).to(self._device)
            with torch.no_grad():
                return {name: float(self._net(x, y)[0]) for name, y in fixed.items()}

        return measure


class Direction:
    """cos(E(a') - E(a), E(b') - E(b)) with features E of unit length; 0 where nothing changed in either pair."""

    def __init__(self, metric: str, encoder: Callable[[list[Image.Image]], Any], device: str) -> None:
        self._metric, self._encoder, self._device = metric, encoder, device

    def __call__(self, question: Images) -> Measure:
        """The measure of answers; a, a' and b are encoded here, once."""
        a_D, a2_D, b_D = self._features(question.a, question.a2, question.b)

        def measure(answer: Image.Image) -> dict[str, float]:
            (answer_D,) = self._features(answer)
            return {self._metric: float(cosine((a2_D - a_D)[None], (answer_D - b_D)[None])[0])}

        return measure

    def _features(self, *images: Image.Image) -> Array:
        import torch

        with torch.no_grad():
            return np.asarray(unit(in_turn(self._encoder, images, self._device)))


def facts_for_protocol(described: Mapping[str, Facts]) -> dict[str, dict[str, str]]:
    """Names and hashes alone: what two results must share to be compared."""
    return {part: {"name": facts.name, "revision": facts.revision} for part, facts in described.items()}


def _describe_perceptual(perceptual: str, side: int) -> Facts:
    from lorweb.data.scorers.lpips import least_side, net_of, read_lpips

    if perceptual == PACKAGED:
        return Facts(PACKAGED, safety_revision(), ())
    file = lpips_file(perceptual)
    net = net_of(file)
    if side < least_side(net):
        raise ValueError(
            f"evaluate.perceptual: LPIPS with '{net}' compares images of {least_side(net)} px and more, and these have "
            f"{side}; set it to {PACKAGED}, or take a larger encode.quadrant"
        )
    read_lpips(net, file)  # says what is wrong with it before anything is drawn
    return Facts(
        f"lpips:{net}", stable_id(VERSION, "lpips", net, file_sha256(file)), ("lpips_to_truth", "lpips_to_source")
    )


def _describe_direction(direction: str) -> Facts:
    if direction == PACKAGED:
        return Facts(PACKAGED, safety_revision(), ())
    kind, folder = _kind_and_folder(direction)
    return Facts(kind, stable_id(VERSION, kind, base_revision(folder)), (f"{kind}_direction",))


def lpips_file(perceptual: str) -> Path:
    """The weights of "lpips:FILE", or of the folder that holds it alone. Raises FileNotFoundError or ValueError."""
    path = fetched(perceptual.partition(":")[2])
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            raise ValueError(
                f"evaluate.perceptual: {path} holds {len(files)} .safetensors files; name the one with {LPIPS_WEIGHTS}"
            )
        path = files[0]
    return weights_file("lpips", str(path), LPIPS_WEIGHTS)


def _kind_and_folder(direction: str) -> tuple[str, Path]:
    kind, _, folder = direction.partition(":")
    return kind, model_at(f"{kind}_direction", folder)


def _encoder(kind: str, folder: Path, device: str) -> Callable[[list[Image.Image]], Any]:
    if kind == "dino":
        from lorweb.data.scorers.features import dino_encoder

        return dino_encoder(folder, device)
    from lorweb.basis.encoders import load_encoder

    return loaded(
        f"{kind}_direction", folder, f"a {kind} image tower", lambda: load_encoder(f"{kind}:{folder}", device)
    )
