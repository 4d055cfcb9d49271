"""The models that are compared: one table. lorweb.evaluation.painter draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from lorweb.training.sampler import other_exemplar

CANDIDATE: Final = "candidate"
OFFICIAL: Final = "official"
"""Whose weights are a checkpoint in the published format, that parameters name."""
BASELINES: Final = ("single_lora", "single_lora_equal", "basis_constant")
"""Whose weights there may be beside the candidate's: names of folders in models/baselines."""


@dataclass(frozen=True)
class Model:
    """One column of the comparison."""

    weights: str | None  # CANDIDATE, OFFICIAL, one of BASELINES, or None for the bare base
    exemplar: Literal["true", "shuffled", "identity"] = "true"  # the pair on top: its own, another task's, or a' = a
    prompt: bool | None = None  # gets the instruction, gets none, or None: as the settings say


@dataclass(frozen=True)
class Reference:
    """A column that nothing is drawn for: an image of the query pair, as stored or as the base's codec returns it."""

    side: Literal["before", "after"]  # b, or the true b'
    through_codec: bool


MODELS: Final[dict[str, Model | Reference]] = {
    "lorweb": Model(CANDIDATE),
    "lorweb_shuffled": Model(CANDIDATE, "shuffled"),
    "lorweb_identity": Model(CANDIDATE, "identity"),
    "lorweb_prompt": Model(CANDIDATE, prompt=True),
    "lorweb_no_prompt": Model(CANDIDATE, prompt=False),
    **{name: Model(name) for name in BASELINES},
    **{f"{name}_shuffled": Model(name, "shuffled") for name in BASELINES},
    "single_lora_prompt": Model("single_lora", prompt=True),
    "single_lora_no_prompt": Model("single_lora", prompt=False),
    "official": Model(OFFICIAL),
    "official_shuffled": Model(OFFICIAL, "shuffled"),
    "base": Model(None),
    "base_prompt": Model(None, prompt=True),
    "base_no_prompt": Model(None, prompt=False),
    "copy": Reference("before", through_codec=False),  # b itself
    "codec_copy": Reference("before", through_codec=True),  # what a model that copies b would draw
    "codec_truth": Reference("after", through_codec=True),  # the best that any model of this base could draw
}


def weights_of(name: str) -> str | None:
    """CANDIDATE, OFFICIAL, one of BASELINES, or None for the bare base and for references."""
    row = MODELS[name]
    return row.weights if isinstance(row, Model) else None


def exemplar_for(model: str, analogy: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Pair id of the exemplar that `model` is shown: the analogy's own, or for shuffled models that of another task.

    All shuffled models get the same one, see `other_exemplar`.

    Raises:
        ValueError: every analogy is of one task, so that there is no other exemplar.
    """
    row = MODELS[model]
    if isinstance(row, Reference) or row.exemplar != "shuffled":
        return str(analogy["exemplar"])
    found = other_exemplar(analogy, others)
    if found is not None:
        return found
    raise ValueError(
        f"all analogies are of task {analogy['task']}, so no exemplar of another task exists; "
        f"evaluate at least two tasks, or leave {model} out of evaluate.models"
    )
