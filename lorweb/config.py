# Lines: one model per stage, together in the order of params.yaml so that the two can be read side by side.
"""Typed parameters: one model per stage, read from `params.yaml`, which is the only home of numbers.

No field has a default: a missing key is an error, an unknown key is an error that names the nearest valid one
(`lorweb.params` reads files and words the errors).
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from lorweb.config_errors import sentence
from lorweb.data.editors.entries import EditorConfig, InstructionsConfig
from lorweb.data.readers import ReaderConfig
from lorweb.data.scorers.entries import ScorerConfig
from lorweb.evaluation.entries import Atoms, Compared
from lorweb.evaluation.gate_entries import Gate
from lorweb.sections import EditType, Once, Pool, Positive, Section, Share
from lorweb.storage.entries import Storage
from lorweb.training.entries import BaseWeights, Basis, Optimizer, Sharding, forward_rows
from lorweb.training.limits import Ablation, Alarms, Split, Stop


class Collect(Section):
    size: Annotated[int, Field(ge=16, le=4096)]
    max_pixels: Positive
    readers: Annotated[tuple[ReaderConfig, ...], Field(min_length=1)]
    max_error_rate: Share
    pool: Pool


class Generate(Section):
    instructions: InstructionsConfig
    editors: Annotated[tuple[EditorConfig, ...], Field(min_length=1)]
    sources_per_task: Positive
    seeds_per_pair: Positive
    max_error_rate: Share

    @model_validator(mode="after")
    def _invented_tasks_find_an_editor(self) -> Self:
        kinds = [entry.editor for entry in self.editors]
        if self.instructions.source == "llm" and "embedded" in kinds:
            raise ValueError(
                "editor 'embedded' knows the named edits of the catalogue and cannot follow the instructions of a "
                "language model; use kontext, diffusers or python, or set instructions to {source: catalogue}"
            )
        if self.instructions.source == "llm" and not {"kontext", "diffusers", "python"} & set(kinds):
            raise ValueError(
                f"nobody would follow the instructions of the language model: editors are {', '.join(kinds)}; add "
                "kontext, diffusers or python, or set instructions to {source: catalogue}"
            )
        return self


class Check(Section):
    """Keep a pair if `min <= score <= max`; `edit_types` empty means all of them."""

    score: str
    min: float | None
    max: float | None
    edit_types: tuple[EditType, ...]

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(f"check on '{self.score}' has neither min nor max; give one of them or delete the check")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"check on '{self.score}' has min {self.min} > max {self.max} and would refuse every pair")
        return self


class Best(Section):
    """Of several draws of one edit of one source keep the `keep` with the largest `score`."""

    keep: Positive
    score: str


class Alike(Section):
    """What counts as the same: look (bits of perceptual hashes), or content (cosine of features; None does not ask)."""

    distance: Annotated[int, Field(ge=0, le=32)]
    cosine: Annotated[float, Field(gt=0.0, le=1.0)] | None


class Filter(Section):
    scorers: Annotated[tuple[ScorerConfig, ...], Field(min_length=1)]
    relative: tuple[str, ...]
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]
    best: Best | None
    duplicates: Alike
    max_error_rate: Share


class Assemble(Section):
    test_subjects: Share
    val_subjects: Share
    holdout_tasks: Share  # of the tasks that declare no hold-out themselves
    train_subjects: tuple[str, ...]  # patterns of subjects that always train
    min_pairs_per_task: Annotated[int, Field(ge=2)]
    max_pairs_per_task: Annotated[int, Field(ge=2)]
    max_pairs_per_source: Positive
    near_evaluation: Alike
    inverse: tuple[str, ...]  # patterns of trained tasks
    composed: Annotated[int, Field(ge=0)]  # tasks
    balance: Literal["task", "edit_type", "pairs", "sqrt"]
    test_per_task: Positive
    val_per_task: Positive

    @model_validator(mode="after")
    def _leaves_training_subjects(self) -> Self:
        if self.test_subjects + self.val_subjects >= 1.0:
            raise ValueError(
                f"test_subjects {self.test_subjects} + val_subjects {self.val_subjects} leave no subject to train on; "
                "their sum must be below 1"
            )
        return self


class Views(Section):
    """Random views of training images, encoded beside the whole images (lorweb.kontext.geometry)."""

    count: Annotated[int, Field(ge=0)]
    smallest: Annotated[float, Field(gt=0.0, le=1.0)]
    flips: Share


class Encode(Section):
    base: str  # "tiny", a diffusers folder, or a hub id
    quadrant: Annotated[int, Field(ge=32, multiple_of=16)]
    encoder: str
    query_mode: str
    grid_analogies: Annotated[int, Field(ge=0)]
    latents: Literal["quadrant", "grid"]
    dtype: Literal["float16", "bfloat16"]
    views: Views
    pool: Pool

    @model_validator(mode="after")
    def _whole_grids_are_a_finite_list(self) -> Self:
        if self.latents == "grid" and not self.grid_analogies:
            raise ValueError(
                "latents is 'grid', so that training draws from a finite list of encoded grids, but grid_analogies is "
                "0; set it to how many, or latents to 'quadrant'"
            )
        return self

    @model_validator(mode="after")
    def _views_are_of_single_images(self) -> Self:
        if self.views.count and self.grid_analogies:
            raise ValueError(
                f"views.count {self.views.count} and grid_analogies {self.grid_analogies} are both set, but grids are "
                "encoded of whole images only; set one of them to 0"
            )
        return self


class Train(Section):
    basis: Basis
    baselines: Once[Literal["single_lora", "single_lora_equal", "basis_constant"]]
    optimizer: Optimizer
    steps: Positive
    batch_size: Positive
    caption_dropout: Share
    guidance: Annotated[float, Field(ge=0)]
    timesteps: Literal["uniform", "logit_normal"]
    weighting: Literal["plain", "bell", "logit_normal"]
    workers: Positive
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)]
    sharding: Sharding
    shard_base: bool
    base_weights: BaseWeights
    precision: Literal["float32", "bfloat16"]
    accumulate: Positive
    gradient_checkpointing: bool
    offload_activations: bool
    compile: bool
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    checkpoint_every: Positive
    keep_checkpoints: Positive
    keep_best: Split | None
    async_checkpoints: bool
    validate_every: Positive
    validation_analogies: Positive
    ablations: Once[Ablation]
    alarms: Alarms | None
    stop: Stop | None
    publish: Literal["last", "best"]
    sheet_rows: Positive

    @model_validator(mode="after")
    def _every_micro_batch_has_a_row(self) -> Self:
        if self.accumulate * self.workers > self.batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be cut into {self.workers} workers x {self.accumulate} "
                "micro-batches (accumulate); their product must not exceed it"
            )
        return self

    @model_validator(mode="after")
    def _the_best_is_kept(self) -> Self:
        if self.publish == "best" and self.keep_best is None:
            raise ValueError(
                "publish is 'best', but keep_best is null, so that no split says which step is; give it seen or unseen"
            )
        return self

    @model_validator(mode="after")
    def _what_is_shared_out_can_be_cut(self) -> Self:
        if self.sharding != "none" and self.optimizer.name == "prodigy":
            raise ValueError(
                f"sharding is '{self.sharding}', but prodigy finds one step size from all parameters, and no worker "
                "would see them all; set sharding to none, or take another optimizer.name"
            )
        if self.shard_base and self.offload_activations and not self.gradient_checkpointing:
            raise ValueError(
                "shard_base and offload_activations are true and gradient_checkpointing false, so that the weights "
                "that a block gathers would go to host memory with its activations; set gradient_checkpointing to true"
            )
        if self.shard_base and self.base_weights != "full":
            raise ValueError(
                f"shard_base is true and base_weights '{self.base_weights}', but quantised weights cannot be cut into "
                "parts: their scales would not fit; set shard_base to false, or base_weights to full"
            )
        return self

    @property
    def forward_rows(self) -> int:
        """Most analogies that one forward takes."""
        return forward_rows(self.batch_size, self.workers, self.accumulate)


class Evaluate(Compared):
    num_inference_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    prompt: bool
    bootstrap: Positive
    pictures_per_cell: Positive
    atoms: Atoms | None
    pool: Pool


class Promote(Section):
    model: str
    gate: Gate


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    storage: Storage
    collect: Collect
    generate: Generate
    filter: Filter
    assemble: Assemble
    encode: Encode
    train: Train
    evaluate: Evaluate
    promote: Promote


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a parameter file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, or keys or values that do not fit; one sentence per fault.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no parameter file at {path}; run from the project root, where params.yaml lies")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    return parse_params(raw, str(path))


def parse_params(raw: Any, name: str) -> Params:
    """Check a parsed tree against the models; `name` is what messages call it. Raises ValueError."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        faults = [sentence(fault, Params) for fault in error.errors()]
        raise ValueError("\n".join(f"{name}: {fault}" for fault in faults)) from error
