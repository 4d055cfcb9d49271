"""Parameters of what training watches beside its loss: parts of the train section of lorweb.config."""

from typing import Annotated, Literal

from pydantic import Field

from lorweb.sections import Positive, Section, Share

Split = Literal["seen", "unseen"]
Ablation = Literal["shuffled", "identity", "no_prompt"]
"""What validation shows besides: another task's exemplar; a' = a; the true exemplar without the instruction."""


class Stop(Section):
    """Early stopping by a validation loss."""

    patience: Positive  # validations in a row without an improvement
    split: Split
    min_delta: Annotated[float, Field(ge=0)]  # a loss has to be lower than the best by more than this


class Alarms(Section):
    """Bounds of the basis' health at a validation (lorweb.training.health); 0, 0 and 1 never ring."""

    from_step: Positive  # validations before it are left alone: at the start every atom is dead, as B = 0
    min_entropy: Share  # below: one LoRA does all
    min_variation: Share  # below: the router gives every exemplar the same coefficients
    max_dead_atoms: Share  # above: so large a share of the atoms does nothing
