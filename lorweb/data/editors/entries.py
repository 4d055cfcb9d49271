"""Parameters of the editors and of where instructions come from: entries of `generate`, without their code."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lorweb.sections import OwnClass, Pool, Positive, Section

Dtype = Literal["float32", "bfloat16", "float16"]
Offload = Literal["none", "model", "sequential"]
Side = Annotated[int, Field(ge=32, multiple_of=16)]  # px


class EditorEntry(Section):
    """What every editor is told: the tasks it does, by patterns of ids, and its own actors."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    pool: Pool


class EmbeddedConfig(EditorEntry):
    """The named edits of the catalogue (lorweb.data.editors.embedded)."""

    editor: Literal["embedded"]


class LoraEntry(Section):
    """A LoRA file in a form that diffusers reads, and how strongly it works."""

    path: str
    weight: float


class DiffusionEntry(EditorEntry):
    """What editors by diffusion share.

    `prompt`: what the model is told, "{instruction}" and "{caption}" filled in. `side`: px, the square root of the area
    that is worked at; sources keep their proportions.
    """

    model: str
    prompt: str
    dtype: Dtype
    offload: Offload
    side: Side
    num_inference_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    loras: tuple[LoraEntry, ...]

    @model_validator(mode="after")
    def _says_the_instruction(self) -> Self:
        if "{instruction}" not in self.prompt:
            raise ValueError(
                f"prompt '{self.prompt}' has no {{instruction}}, so that all tasks would be the same; add it"
            )
        return self


class KontextConfig(DiffusionEntry):
    """FLUX.1-Kontext: `model` is "tiny", a folder, or a hub id."""

    editor: Literal["kontext"]
    compile: bool


class DiffusersConfig(DiffusionEntry):
    """Any diffusers pipeline that takes an image and a prompt: `model` is a folder or a hub id.

    `pipeline`: load the folder as AutoPipelineForImage2Image or AutoPipelineForInpainting (the mask is the whole
    image), or as the class that it names itself. `strength`: share of the steps that are taken, from so much noise;
    null where the pipeline has none. `arguments`: further ones of the pipeline's call, as {image_guidance_scale: 1.5}.
    """

    editor: Literal["diffusers"]
    pipeline: Literal["image_to_image", "inpaint", "own"]
    strength: Annotated[float, Field(gt=0, le=1)] | None
    arguments: dict[str, float | int | bool | str]

    @model_validator(mode="after")
    def _takes_a_step(self) -> Self:
        if self.strength is not None and self.strength * self.num_inference_steps < 1:
            raise ValueError(
                f"strength {self.strength} of {self.num_inference_steps} steps is less than one step; raise one of them"
            )
        return self


class EmojiConfig(EditorEntry):
    """The same emoji as another artist drew it. `cache`: folder for the sets, as in the reader `fluent`."""

    editor: Literal["emoji"]
    cache: str


class GivenConfig(EditorEntry):
    """Pairs that exist: what readers of pairs left in data/sources/given."""

    editor: Literal["given"]


class PythonConfig(EditorEntry, OwnClass):
    """An editor of the user's own (lorweb.data.editors.base.Editor)."""

    editor: Literal["python"]


EditorConfig = Annotated[
    EmbeddedConfig | KontextConfig | DiffusersConfig | EmojiConfig | GivenConfig | PythonConfig,
    Field(discriminator="editor"),
]


class CatalogueInstructions(Section):
    """Tasks and their instructions are those of the packaged catalogue."""

    source: Literal["catalogue"]


class LlmInstructions(Section):
    """A language model invents `tasks` tasks, `per_call` of them per reply; `model` is a local transformers folder."""

    source: Literal["llm"]
    model: str
    tasks: Positive
    per_call: Positive
    max_new_tokens: Positive
    max_words: Positive  # of one instruction
    temperature: Annotated[float, Field(gt=0)]
    dtype: Dtype
    pool: Pool


InstructionsConfig = Annotated[CatalogueInstructions | LlmInstructions, Field(discriminator="source")]
