"""One model that draws for many visitors, one after another, and shows b' as it forms.

Legend: L layers with a basis, N LoRAs per layer.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from lorweb.kontext.pipeline import AnalogyPipeline
    from lorweb.kontext.request import Preview

Pair = tuple[Image.Image, Image.Image]
PAUSE = 0.05  # s between two pictures of b' as it forms


@dataclass(frozen=True)
class Question:
    """An analogy to draw. `second` is another exemplar, and `t` how far the mix goes from the first (0) to it (1)."""

    first: Pair
    b: Image.Image
    prompt: str
    seed: int
    strength: float
    second: Pair | None = None
    t: float = 0.0

    @property
    def shown(self) -> Pair:
        """The exemplar that the model sees beside b: the one that weighs more. The mix blends, pictures cannot."""
        return self.second if self.second is not None and self.t >= 0.5 else self.first


@dataclass(frozen=True)
class Forming:
    """b' after `done` of `steps` steps, at the model's own size."""

    image: Image.Image
    done: int
    steps: int


@dataclass(frozen=True)
class Drawn:
    """b' at b's size, and the coefficients [L, N] that made it, before strength; None with internal queries."""

    image: Image.Image
    mix_LN: Tensor | None
    question: Question


Said = Forming | Drawn | BaseException | None  # None: the run was ended


class _Left(Exception):
    """Nobody waits for the answer any more."""


class Studio:
    """Draws for one visitor at a time: the basis sits in the one transformer."""

    def __init__(self, pipe: "AnalogyPipeline") -> None:
        self.pipe, self.free = pipe, Lock()

    def draw(self, question: Question, ended: Callable[[], bool] = lambda: False) -> Generator[Forming | Drawn]:
        """`Forming` as the steps go by, then one `Drawn`; none where the run was ended before.

        The run ends at its next step when the iterator is closed, or when `ended` says so: who holds an iterator may
        be gone without closing it, and the next visitor waits.
        A step that comes within `PAUSE` of the one before is not shown, nor one that is late for who looks: what is
        said is always the newest, and a page that falls behind has little to catch up with.
        The run has a thread of its own, so that a visitor who leaves in the middle cannot leave it half done.

        Raises:
            ValueError: images or numbers that cannot be used; the sentence is shown on the page.
        """
        said: SimpleQueue[Said] = SimpleQueue()
        left = Event()
        Thread(target=self._run, args=(question, said, lambda: left.is_set() or ended()), daemon=True).start()
        try:
            while True:
                found = said.get()
                while isinstance(found, Forming) and not said.empty():
                    found = said.get()
                if found is None:
                    return
                if isinstance(found, BaseException):
                    raise found
                yield found
                if isinstance(found, Drawn):
                    return
        finally:
            left.set()

    def _run(self, question: Question, said: "SimpleQueue[Said]", ended: Callable[[], bool]) -> None:
        last = -PAUSE

        def show(done: int, steps: int, images: list[Image.Image]) -> None:
            nonlocal last
            if ended():
                raise _Left
            if monotonic() >= last + PAUSE:
                last = monotonic()
                said.put(Forming(images[0], done, steps))

        try:
            with self.free:
                said.put(None if ended() else self._drawn(question, show))
        except _Left:
            said.put(None)
        except BaseException as error:  # it is raised where somebody waits for it
            said.put(error)

    def _drawn(self, question: Question, show: "Preview") -> Drawn:
        from lorweb.kontext.denoise import Sampling
        from lorweb.kontext.request import Request

        mix_LN = self.mix(question)
        request = Request(
            Sampling(self.pipe.steps, self.pipe.guidance),
            question.prompt,
            question.seed,
            question.strength,
            mix_LN,
            show,
        )
        (answer,) = self.pipe.stream(*question.shown, [question.b], request)
        return Drawn(answer.image, mix_LN, question)

    def mix(self, question: Question) -> Tensor | None:
        """The coefficients [L, N] that a question asks for, before strength; None with internal queries.

        Raises:
            ValueError: an image cannot be used, or two exemplars with internal queries.
        """
        from lorweb.basis.mixes import interpolate

        if self.pipe.config.internal:
            if question.second is not None:
                raise ValueError(
                    "this model asks anew in every layer at every step, so that two exemplars cannot be mixed; take "
                    "the second one away"
                )
            return None
        first_LN = self.pipe.mix(*question.first, question.b)
        if question.second is None:
            return first_LN
        return interpolate(first_LN, self.pipe.mix(*question.second, question.b), question.t)
