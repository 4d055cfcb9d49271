"""What `lorweb apply` does, without the command line: images in, PNG files out that say how they were made."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorweb.commands import load, model_name, read_image
from lorweb.kontext.limits import check_asked

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from lorweb.kontext.pipeline import AnalogyPipeline


@dataclass(frozen=True)
class ApplySettings:
    """Options of `lorweb apply`; None takes the model's own value."""

    prompt: str = ""
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    strength: float = 1.0
    mixes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises ValueError for numbers outside of `lorweb.kontext.limits`, before anything is loaded."""
        check_asked(self.strength, self.steps, self.guidance, self.seed)


@dataclass(frozen=True)
class Written:
    """One query: where its b' went and what is written into it, or why it has none."""

    source: Path
    output: Path | None
    fault: str | None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawer:
    """A loaded model that draws; `facts` are those of the model and of what surrounds it."""

    pipe: "AnalogyPipeline"
    basis: Path
    facts: dict[str, Any]


def load_drawer(model: str, offload: str, fold: bool) -> Drawer:
    """The model behind `--model`. Raises as `lorweb.commands.load` does."""
    from lorweb.provenance import model_facts, surroundings

    pipe, basis = load(model, offload)
    if fold:
        pipe.fold, pipe.batch_size = True, 1  # weights hold one analogy
    return Drawer(pipe, basis, {**model_facts(model_name(model), basis), **surroundings(pipe, offload)})


def apply(
    drawer: Drawer, exemplar: tuple[Path, Path], plan: dict[Path, Path], settings: ApplySettings
) -> Iterator[Written]:
    """Write b' for each query as soon as its batch is done. A single query that cannot be read is an error; of several,
    it is reported and the others go on.

    Raises:
        FileNotFoundError, ValueError: an image or a coefficient file cannot be used.
        OSError: an output cannot be written; none is left half-written.
    """
    from lorweb.basis.files import write_bytes
    from lorweb.basis.mixes import mix_hash
    from lorweb.kontext.denoise import Sampling
    from lorweb.kontext.request import Request
    from lorweb.provenance import facts_of, input_facts, png_with_facts

    pipe = drawer.pipe
    a, a2 = (read_image(path) for path in exemplar)
    given = combined(settings.mixes, drawer.basis)
    sampling = Sampling(settings.steps or pipe.steps, pipe.guidance if settings.guidance is None else settings.guidance)
    request = Request(sampling, settings.prompt, settings.seed, settings.strength, given)
    used = {**asdict(settings), "steps": sampling.steps, "guidance": sampling.guidance}
    shown = input_facts({"a": a, "a2": a2}, {"a": exemplar[0].name, "a2": exemplar[1].name})
    queries = _Queries(list(plan))
    if len(plan) > 1:  # the bar of images is enough
        pipe.set_progress_bar_config(disable=True)
    for index, answer in enumerate(pipe.stream(a, a2, queries, request)):
        source, pixels = queries.read[index]
        inputs = {**shown, "b": {"pixels_sha256": pixels, "name": source.name}}
        mix = None if answer.mix_LN is None else mix_hash(answer.mix_LN)
        facts = facts_of(used, drawer.facts, inputs, queries.batch_of(index), mix)
        write_bytes(plan[source], png_with_facts(answer.image, facts))
        yield Written(source, plan[source], None, facts)
    yield from queries.faults


class _Queries:
    """Query images one by one as they are asked for; `faults` has those that cannot be read."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.read: list[tuple[Path, str]] = []  # path, hash of its pixels
        self.faults: list[Written] = []
        self.ended = False
        self.batch = range(0)

    def __iter__(self) -> Iterator["Image.Image"]:
        from lorweb.provenance import pixel_hash

        for path in self.paths:
            try:
                image = read_image(path)
            except (ValueError, OSError) as error:
                if len(self.paths) == 1:
                    raise
                self.faults.append(Written(path, None, str(error)))
                continue
            self.read.append((path, pixel_hash(image)))
            yield image
        self.ended = True

    def batch_of(self, index: int) -> list[int]:
        """[place in its batch, size of the batch] of the query whose answer comes now.

        Products of matrices of another height may round otherwise, so that this belongs to how a picture was made. The
        first answer of a batch comes when the image after the batch was read, or when there is none.
        """
        if index not in self.batch:
            self.batch = range(index, len(self.read) - (0 if self.ended else 1))
        return [index - self.batch.start, len(self.batch)]


def combined(texts: list[str], basis: Path) -> "Tensor | None":
    """The mix [L, N] of `--mix` files for a basis; None without any. Raises as `lorweb.basis.mix_files.combine`."""
    if not texts:
        return None
    from lorweb.basis.mix_files import combine, parse_terms

    return combine(parse_terms(texts), basis).mix_LN
