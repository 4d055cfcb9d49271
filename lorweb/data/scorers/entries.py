"""Parameters of the scorers: entries of `filter.scorers`, without their code."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from lorweb.sections import OwnClass, Pool, Positive, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")]
Dtype = Literal["float32", "bfloat16", "float16"]


class ScorerEntry(Section):
    """What every scorer is told: its own actors."""

    pool: Pool


class EmbeddedScorerConfig(ScorerEntry):
    """Pixels, SSIM, sharpness, OpenNSFW and its features, perceptual hashes (lorweb.data.scorers.embedded)."""

    scorer: Literal["embedded"]


class FeaturesConfig(ScorerEntry):
    """An encoder of lorweb.basis.encoders; `name` stands in its scores, as in similarity.<name>."""

    scorer: Literal["features"]
    name: Name
    encoder: str


class ClipConfig(ScorerEntry):
    """CLIP: `model` is a folder or a hub id.

    `before`, `after`: what the two images show, "{caption}" and "{instruction}" filled in. `blank`: the caption of
    sources that have none.
    """

    scorer: Literal["clip"]
    model: str
    before: str
    after: str
    blank: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _tells_the_two_apart(self) -> Self:
        if "{instruction}" not in self.after or "{instruction}" in self.before:
            raise ValueError(
                f"clip_direction needs {{instruction}} in after ('{self.after}') and not in before ('{self.before}')"
            )
        return self


class DinoConfig(ScorerEntry):
    """DINOv2, or another vision tower with a pooled output: `model` is a folder or a hub id."""

    scorer: Literal["dino"]
    model: str


class LpipsConfig(ScorerEntry):
    """LPIPS: `weights` is a safetensors file with the backbone and its linear heads (docs/data_scorers.md)."""

    scorer: Literal["lpips"]
    net: Literal["alex", "vgg"]
    weights: str


class AestheticConfig(ScorerEntry):
    """A head over CLIP's image embedding: `model` as for clip, `head` a safetensors file (docs/data_scorers.md)."""

    scorer: Literal["aesthetic"]
    model: str
    head: str


class ClassifierConfig(ScorerEntry):
    """An image classifier of transformers, as for unsafe content. The score `name` is the larger probability, of a and
    a', that an image has one of `labels`.
    """

    scorer: Literal["classifier"]
    name: Name
    model: str
    labels: Annotated[tuple[str, ...], Field(min_length=1)]


class Endpoint(Section):
    """A server that speaks OpenAI's chat completions under `url`, as http://127.0.0.1:8000/v1."""

    url: str
    timeout_s: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _is_a_plain_address(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"endpoint url is '{self.url}'; write it as http://HOST:PORT/v1")
        if parts.username or parts.password:
            raise ValueError(
                "the endpoint url holds a user or a password, which parameters must not; use a local proxy"
            )
        return self


class AskedModel(Section):
    """A vision language model that is asked: `model` is a folder, a hub id, or a name that the endpoint knows.

    `side`: px of the longer side at which it is shown images. `retries`: further replies after an invalid one.
    """

    model: str
    endpoint: Endpoint | None
    side: Positive
    max_new_tokens: Positive
    temperature: Annotated[float, Field(gt=0)]
    retries: Annotated[int, Field(ge=0)]
    dtype: Dtype


class JudgeConfig(ScorerEntry, AskedModel):
    """A judge that grades a pair."""

    scorer: Literal["judge"]


class PythonScorerConfig(ScorerEntry, OwnClass):
    """A scorer of the user's own (lorweb.data.scorers.base.Scorer)."""

    scorer: Literal["python"]


ScorerConfig = Annotated[
    EmbeddedScorerConfig
    | FeaturesConfig
    | ClipConfig
    | DinoConfig
    | LpipsConfig
    | AestheticConfig
    | ClassifierConfig
    | JudgeConfig
    | PythonScorerConfig,
    Field(discriminator="scorer"),
]
