"""What the parameter models of all stages are made of; they stand apart so that parts can declare their own entries."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A group of parameters: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pool(Section):
    """Resources of one Ray actor pool. They change speed, never results."""

    actors: Positive
    cpus: Annotated[float, Field(gt=0)]  # per actor; fractions share a core
    gpus: Annotated[float, Field(ge=0)]  # per actor
    batch_size: Positive  # rows
