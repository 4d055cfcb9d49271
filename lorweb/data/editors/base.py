"""What an editor is: requests in, images out. And what a named edit is: a pure function of an image, its own checked
parameters, and a seeded generator.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from PIL import Image

from lorweb.data.catalogue import Task, Value
from lorweb.data.decode import decode_rgb
from lorweb.data.rejects import Rejected

FAMILIES: Final = ("style", "colour", "weather", "object", "geometry", "attribute")
SeedBy = Literal["task", "pair"]
"""task: one seed for all sources of a task, so that an exemplar shows its query's pattern. pair: each its own."""
_MAX_PIXELS: Final = 1 << 28  # sources were decoded under the run's own limit already


@dataclass(frozen=True)
class SourceFacts:
    """A source as editors see it: fields of `records.SOURCE`; `image` are the bytes of a PNG."""

    id: str
    image: bytes
    origin: str
    category: str
    caption: str


@dataclass(frozen=True)
class EditRequest:
    """One edit to make. `instruction` is one of the task's; `seed`, in [0, 2**32), is all the chance there is."""

    task: Task
    source: SourceFacts
    instruction: str
    seed: int

    def image(self) -> Image.Image:
        """The source, RGB. Raises `Rejected` for bytes that do not decode."""
        return decode_rgb(self.source.image, _MAX_PIXELS)


class Editor(Protocol):
    """Makes after-images. Constructing it loads what it needs; it then lives as long as its worker.

    Attributes:
        name: what pairs record as their editor.
        revision: changes whenever the same request would give other pixels.
        seed_by: how seeds are drawn.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def seed_by(self) -> SeedBy: ...

    def __call__(self, batch: Sequence[EditRequest]) -> Sequence[Image.Image | Rejected]:
        """One answer for each request, in order: RGB of the source's size, or why there is none.

        The answer to a request depends on that request alone. An exception costs the rows that raise it, no others.
        """


@dataclass(frozen=True)
class EditorFacts:
    """What is known of an editor before it is loaded; `revision` covers all of its parameters."""

    name: str
    revision: str
    seed_by: SeedBy


def checked(answers: Sequence[object], batch: Sequence[EditRequest]) -> list[Image.Image | Rejected]:
    """Answers that keep the promise of `Editor`; one that does not becomes `Rejected` (check `bad_answer`).

    Raises:
        ValueError: the number of answers is not that of the requests, so that nobody knows whose they are.
    """
    if len(answers) != len(batch):
        raise ValueError(f"the editor gave {len(answers)} answers to {len(batch)} requests; it must give one for each")
    return [_checked(answer, request) for answer, request in zip(answers, batch, strict=True)]


def _checked(answer: object, request: EditRequest) -> Image.Image | Rejected:
    if isinstance(answer, Rejected):
        return answer
    if not isinstance(answer, Image.Image):
        return Rejected("bad_answer", f"the editor gave a {type(answer).__name__}, not an image")
    size = request.image().size
    if answer.mode != "RGB" or answer.size != size:
        got = f"{answer.mode} of {answer.width} x {answer.height}"
        return Rejected("bad_answer", f"the editor gave {got} pixels for RGB of {size[0]} x {size[1]}")
    return answer


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
