"""What an edit is: a named pure function of an image, its own checked parameters, and a seeded generator."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from lorweb.data.catalogue import Value

FAMILIES: Final = ("style", "colour", "weather", "object", "geometry", "attribute")


@dataclass(frozen=True)
class SourceInfo:
    """What an edit may know of its subject beside the pixels: fields of `records.SOURCE`."""

    origin: str
    category: str


@dataclass(frozen=True)
class Number:
    """A parameter in [low, high]."""

    low: float
    high: float
    whole: bool = False

    def fault(self, value: object) -> str | None:
        """Why a value does not fit, or None."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"is {value!r}, not a number"
        if self.whole and value != int(value):
            return f"is {value}, not a whole number"
        if not self.low <= value <= self.high:
            return f"is {value}, outside {self.low:g} to {self.high:g}"
        return None


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of some words."""

    options: tuple[str, ...]

    def fault(self, value: object) -> str | None:
        """Why a value does not fit, or None."""
        return None if value in self.options else f"is {value!r}, not one of {', '.join(self.options)}"


class Args(Mapping[str, Value]):
    """The parameters of one step, already checked against its edit."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def number(self, name: str) -> float:
        """A `Number` parameter."""
        value = self._values[name]
        assert not isinstance(value, str)
        return value

    def text(self, name: str) -> str:
        """A `Choice` parameter."""
        value = self._values[name]
        assert isinstance(value, str)
        return value


# image (RGB, square), its source, the generator of this (task, seed), the step's own parameters -> RGB of equal size
Apply = Callable[[Image.Image, SourceInfo, np.random.Generator, Args], Image.Image]


@dataclass(frozen=True)
class Edit:
    """A named edit.

    Attributes:
        draws: it ignores the pixels and draws the avatar anew, so it can only be the first step.
    """

    name: str
    family: str
    params: Mapping[str, Number | Choice]
    apply: Apply
    draws: bool = False


def pixels(image: Image.Image) -> np.ndarray:
    """[H, W, 3] float32 in 0..1."""
    return np.asarray(image, np.float32) / 255.0


def picture(values: np.ndarray) -> Image.Image:
    """The inverse of `pixels`; clips."""
    return Image.fromarray(np.asarray(np.clip(values, 0.0, 1.0) * 255.0 + 0.5, np.uint8))
