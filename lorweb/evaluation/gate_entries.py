"""Parameters of the gate (lorweb.evaluation.gate): a part of the promote section of lorweb.config. Without torch."""

from typing import Annotated, Literal

from pydantic import Field

from lorweb.sections import Section, Share


class Healthy(Section):
    """Bounds of the basis' health on the test analogies (lorweb.basis.health); 0, 0, 0 and 1 ask nothing."""

    min_entropy: Share
    min_variation: Share
    min_update_variation: Share
    max_dead_atoms: Share


class Gate(Section):
    metric: str
    cells: Annotated[tuple[str, ...], Field(min_length=1)]
    margin_at: Literal["mean", "low"]
    min_margin: Annotated[float, Field(ge=0)]
    min_exemplar_gap: Annotated[float, Field(ge=0)]
    min_gain_over_copy: Annotated[float, Field(ge=0)]
    max_task_regression: Annotated[float, Field(ge=0)]
    max_regressed_tasks: Share
    health: Healthy | None
