"""What the demo does with a filled-in form, without Gradio: checks it, draws, and says what the page shows."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lorweb.serving import demo_panels as panels
from lorweb.serving.demo_files import Answer, Desk, Lora
from lorweb.serving.demo_limits import MAX_SEED, Limits, Rate, finite, read_upload, whole, within
from lorweb.serving.demo_stops import STOPPED, Stops
from lorweb.serving.demo_studio import Drawn, Question, Studio
from lorweb.serving.demo_tasks import TrainedTasks, trained_tasks
from lorweb.terminal import check_characters

if TYPE_CHECKING:
    from lorweb.kontext.pipeline import AnalogyPipeline

STRENGTH = (-1.0, 2.0)
NEAREST = 5
VISITS = 256  # whose last stop is remembered
EXACT = "exact"
Upload = Mapping[str, Any] | None


@dataclass(frozen=True)
class Form:
    """What a visitor sent, unchecked: uploads as Gradio knows them, numbers and text as they came.

    `asked` is the time of the click in ms; None or 0 where a program asks.
    """

    a: Upload
    a2: Upload
    b: Upload
    c: Upload
    c2: Upload
    t: Any
    strength: Any
    seed: Any
    prompt: Any
    asked: Any = None


@dataclass(frozen=True)
class Visitor:
    """Who asks: where from, which is counted, and the visit, of which only one thing is drawn."""

    address: str
    visit: str = ""


@dataclass(frozen=True)
class Shown:
    """A state of the page: b' as it forms (an image), or drawn (the file that can be downloaded), and the panels.

    No image leaves the one that is shown.
    """

    image: Image.Image | Path | None
    status: str
    mix: str | None = None
    tasks: str | None = None
    answer: Answer | None = None


class Host:
    """One model, open to visitors. `tasks` is the mean mixes of the training tasks, or why there are none.

    `uploads` is the folder that visitors' files come in; no file outside it is read for them, and answers lie there.
    """

    def __init__(
        self, pipe: "AnalogyPipeline", basis: Path, tasks: TrainedTasks | str, limits: Limits, uploads: Path
    ) -> None:
        """Raises OSError where no files can be written."""
        self.studio, self.limits, self.tasks, self.uploads = Studio(pipe), limits, tasks, uploads
        self.desk = Desk(pipe, basis, limits, uploads)
        self.rate = Rate(limits.per_minute)
        self.looks = Rate(limits.uploads_per_minute, did="uploaded", again="upload")
        self.stops = Stops(VISITS)

    @property
    def ranks(self) -> list[str]:
        """What a LoRA's rank may be: exact, and powers of two below that."""
        config = self.studio.pipe.config
        exact = config.n_loras * config.rank
        return [EXACT, *(str(2**k) for k in range(exact.bit_length()) if 2**k < exact)]

    def look(self, file: Upload, name: str, address: str) -> Image.Image:
        """As `image`, when it has just been uploaded. Raises ValueError, also where the address uploads too often."""
        self.looks.ask(address)
        return self.image(file, name)

    def image(self, file: Upload, name: str) -> Image.Image:
        """The picture of an upload. Raises ValueError; the sentence is shown on the page."""
        return read_upload(file, name, self.limits, self.uploads)

    def question(self, form: Form) -> Question:
        """The form, checked. Raises ValueError; the sentence is shown on the page."""
        prompt = form.prompt or ""
        if not isinstance(prompt, str) or len(prompt) > self.limits.prompt:
            raise ValueError(f"the prompt is longer than {self.limits.prompt} letters; say it shorter")
        check_characters(prompt, "the prompt")
        strength = within(form.strength, "strength", *STRENGTH)
        t, seed = within(form.t, "interpolation", 0.0, 1.0), whole(form.seed, "seed", MAX_SEED)
        a, a2, b = (self.image(file, name) for file, name in ((form.a, "a"), (form.a2, "a'"), (form.b, "b")))
        second = None
        if form.c or form.c2:
            second = (self.image(form.c, "c"), self.image(form.c2, "c'"))
        return Question((a, a2), b, prompt, seed, strength, second, t)

    def answers(self, form: Form, visitor: Visitor) -> Iterator[Shown]:
        """The page after each step, and then with the answer, or with the word that it was stopped.

        Raises:
            ValueError: see `question` and `Studio.draw`; or the address has asked too often.
            OSError: the files of the answer cannot be written.
        """
        self.rate.ask(visitor.address)  # first: a form that cannot be drawn takes time too
        question = self.question(form)
        asked = finite(form.asked, "time of the click") if form.asked else None
        with closing(self.studio.draw(question, lambda: self.stops.stopped(visitor.visit, asked))) as run:
            for found in run:
                if isinstance(found, Drawn):
                    yield self._finished(found)
                    return
                sentence = f"Step {found.done} of {found.steps}"
                yield Shown(found.image, panels.status(sentence, found.done / found.steps))
        yield Shown(None, panels.status(STOPPED))

    def _finished(self, drawn: Drawn) -> Shown:
        answer, question = self.desk.put(drawn), drawn.question
        size = f"{drawn.image.width} × {drawn.image.height} px"
        status = panels.status(f"Drawn: {size}, strength {question.strength:g}, seed {question.seed}")
        if drawn.mix_LN is None:
            why = panels.why_not("This model asks anew in every layer at every step, so there is no one mix to show.")
            return Shown(answer.image, status, why, why, answer)
        note = f"A mean over {len(drawn.mix_LN)} layers, before strength."
        mix = panels.mix_bars(drawn.mix_LN.double().mean(0).tolist(), note)
        if isinstance(self.tasks, str):
            return Shown(answer.image, status, mix, panels.why_not(self.tasks), answer)
        return Shown(answer.image, status, mix, panels.task_list(self.tasks.nearest(drawn.mix_LN, NEAREST)), answer)

    def bake(self, answer: Answer | None, style: Any, rank: Any, address: str) -> Lora:
        """A LoRA of the last answer. Raises ValueError and OSError as `Desk.bake` does, or where there is no answer."""
        if answer is None:
            raise ValueError("there is no answer yet to bake; draw b' first")
        if rank not in self.ranks:
            raise ValueError(f"the rank is {str(rank)[:40]!r}; take one of {', '.join(self.ranks)}")
        self.rate.ask(address)
        return self.desk.bake(answer, str(style), None if rank == EXACT else int(rank))


def tasks_or_why(pipe: "AnalogyPipeline", data: Path) -> TrainedTasks | str:
    """The mean mixes of the training tasks below `data`, or the sentence that says why there are none."""
    try:
        return trained_tasks(pipe, data)
    except FileNotFoundError:
        return f"No training data in {data}: run `lorweb demo` where the pipeline has run, or name its data by --data."
    except (ValueError, KeyError, OSError) as error:
        return f"The training tasks cannot be compared: {error}"
