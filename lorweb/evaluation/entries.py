"""What the parameters of evaluation may name: models, backbones, a judge. Without torch."""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lorweb.config_errors import unknown_name
from lorweb.data.scorers.entries import AskedModel
from lorweb.sections import Once, Pool, Positive, Section, Share

ModelName = Literal[
    "lorweb",
    "lorweb_shuffled",
    "lorweb_identity",
    "lorweb_prompt",
    "lorweb_no_prompt",
    "single_lora",
    "single_lora_shuffled",
    "single_lora_prompt",
    "single_lora_no_prompt",
    "single_lora_equal",
    "single_lora_equal_shuffled",
    "basis_constant",
    "basis_constant_shuffled",
    "official",
    "official_shuffled",
    "base",
    "base_prompt",
    "base_no_prompt",
    "copy",
    "codec_copy",
    "codec_truth",
]
"""The models that can be compared: lorweb.evaluation.models.MODELS."""
PACKAGED: Final = "packaged"
PERCEPTUAL: Final = ("lpips",)
DIRECTION: Final = ("clip", "siglip2", "dino")


def _backbone(name: str, kinds: tuple[str, ...]) -> str:
    kind, _, path = name.partition(":")
    if name != PACKAGED and (kind not in kinds or not path):
        raise ValueError(unknown_name("backbone", name, [PACKAGED, *(f"{kind}:PATH" for kind in kinds)]))
    return name


def _perceptual(name: str) -> str:
    return _backbone(name, PERCEPTUAL)


def _direction(name: str) -> str:
    return _backbone(name, DIRECTION)


def _six_digits(strength: float) -> float:
    if float(f"{strength:g}") != strength:
        raise ValueError(f"{strength!r} has more than six digits; round it, to {strength:g}")
    return strength


Strength = Annotated[float, Field(ge=-10.0, le=10.0), AfterValidator(_six_digits)]
"""Names a picture of the gallery, by `:g`."""
Perceptual = Annotated[str, AfterValidator(_perceptual)]
"""packaged, or lpips:FILE (or the folder that holds it)."""
Direction = Annotated[str, AfterValidator(_direction)]
"""packaged, or clip:, siglip2: or dino: with a folder or hub id."""


class AnswerJudge(AskedModel):
    """A judge of answers: it grades those of `graded`, and prefers `lorweb` or one of `rivals`, asked in both orders.

    `max_unanswered`: share of questions that the judge may leave without any reply before the stage stops.
    """

    graded: Once[ModelName]
    rivals: Once[ModelName]
    max_unanswered: Share
    pool: Pool

    @model_validator(mode="after")
    def _is_asked_something(self) -> Self:
        if not self.graded and not self.rivals:
            raise ValueError("judge grades no model and compares with no rival; name some, or set judge to null")
        if "lorweb" in self.rivals:
            raise ValueError("judge.rivals names lorweb, which is what the rivals are compared with; leave it out")
        return self


class Compared(Section):
    """What is compared, and by what.

    `seeds`: noises per analogy. `official`: folder or weights file of a checkpoint in the published format.
    """

    seeds: Annotated[int, Field(ge=1, le=64)]
    models: Annotated[Once[ModelName], Field(min_length=1)]
    official: str | None
    perceptual: Perceptual
    direction: Direction
    judge: AnswerJudge | None

    @model_validator(mode="after")
    def _official_has_weights(self) -> Self:
        drawn = [name for name in self.models if name.startswith("official")]
        if drawn and self.official is None:
            raise ValueError(f"models names {drawn[0]}, but official is null; set it to the folder of a checkpoint")
        if self.official is not None and not drawn:
            raise ValueError(f"official is '{self.official}', but models does not name official; add it, or set null")
        return self

    @model_validator(mode="after")
    def _the_judge_sees_what_is_drawn(self) -> Self:
        if self.judge is not None:
            asked = dict.fromkeys([*self.judge.graded, *(["lorweb", *self.judge.rivals] if self.judge.rivals else [])])
            odd = [name for name in asked if name not in self.models]
            if odd:
                raise ValueError(f"judge asks about {', '.join(odd)}, which models does not name; add it to models")
        return self


class Atoms(Section):
    """The report's gallery of single LoRAs: the `loras` most used, each at all strengths, on `queries` images b."""

    loras: Positive
    strengths: Annotated[Once[Strength], Field(min_length=1)]
    queries: Positive
