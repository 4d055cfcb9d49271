"""What the parameter models of all stages are made of; they stand apart so that parts can declare their own entries."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

T = TypeVar("T")


def _once(found: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(map(str, twice))} stands there more than once; name each once")
    return found


Once = Annotated[tuple[T, ...], AfterValidator(_once)]
"""Names in an order, each at most once."""
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
# The families of the catalogue, and "other" for pairs that somebody else made.
EDIT_TYPES = ("style", "colour", "weather", "object", "geometry", "attribute", "other")
EditType = Literal["style", "colour", "weather", "object", "geometry", "attribute", "other"]


class Section(BaseModel):
    """A group of parameters: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnClass(Section):
    """A class of the user's own, "module:Class", made with `options`; the key in the file is `class`."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    class_: Annotated[str, Field(alias="class", pattern=r"^[\w.]+:\w+$")]
    options: dict[str, Any]


class Pool(Section):
    """Resources of one Ray actor pool. They change speed, never results."""

    actors: Positive
    cpus: Annotated[float, Field(gt=0)]  # per actor; fractions share a core
    gpus: Annotated[float, Field(ge=0)]  # per actor
    batch_size: Positive  # rows
