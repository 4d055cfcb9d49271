"""What a PNG says of how it was made: what it has to say, and which of its claims hold here.

A claim is compared, or named as not compared: `lorweb reproduce` vouches for nothing that nobody looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from lorweb.kontext.limits import GUIDANCE, SEED, STEPS, STRENGTH

MAY_DIFFER: Final = ("device", "gpu", "dtype", "threads", "versions")
MOST: Final = 64  # images of one batch: more were never drawn together
_HASHES: Final = ("mix", "content_sha256", "lineage_key")  # the picture is not what it says where one is another
_NAMES: Final = ("base", "encoder", "model", "model_version")  # of what may lie elsewhere, and whose hashes decide
_DRAWN: Final = (  # refused where it is another, or what the picture was drawn with here
    "prompt", "steps", "guidance", "seed", "strength", "mixes", "inputs", "batch", "basis_sha256", "base_revision",
    "encoder_revision", "offload", "fold",
)  # fmt: skip


class Side(BaseModel):
    """One image that a picture was made of."""

    pixels_sha256: str
    name: str = "no file"


class Recipe(BaseModel):
    """What a PNG has to say to be made again; it may say more."""

    prompt: str
    steps: Annotated[int, Field(ge=STEPS[0], le=STEPS[1])]
    guidance: Annotated[float, Field(ge=GUIDANCE[0], le=GUIDANCE[1], allow_inf_nan=False)]
    seed: Annotated[int, Field(ge=SEED[0], le=SEED[1])]
    strength: Annotated[float, Field(ge=STRENGTH[0], le=STRENGTH[1], allow_inf_nan=False)]
    mixes: list[str]
    mix: str | None
    a: Side
    a2: Side
    b: Side
    batch: tuple[Annotated[int, Field(ge=0, lt=MOST)], Annotated[int, Field(ge=1, le=MOST)]]
    basis_sha256: str
    content_sha256: str = ""
    base_revision: str
    encoder_revision: str
    offload: str
    fold: bool
    model: str
    model_version: str = ""


@dataclass(frozen=True)
class Claims:
    """`false`: hashes that are others here. `differs`: surroundings that are others here. Both {name: [then, now]}.

    `unchecked`: what nothing here could be compared with, `inputs.a.name` for what is said of an image.
    """

    false: dict[str, list[Any]]
    differs: dict[str, list[Any]]
    unchecked: list[str]


def claims_of(said: Mapping[str, Any], here: Mapping[str, Any], names: Mapping[str, str]) -> Claims:
    """What a picture says beside what is so here, after it was drawn again.

    Args:
        said: all of its facts.
        here: the same of this run, as far as they are known; an empty text or None is not known.
        names: {a, a2, b: name of the file that was given}.
    """
    known = [name for name in (*_HASHES, *_NAMES) if name in said and (here.get(name) or name == "mix")]
    false: dict[str, list[Any]] = {
        str(name): [said[name], here.get(name)] for name in _HASHES if name in known and said[name] != here.get(name)
    }
    unchecked = [
        name for name in said
        if name not in (*_DRAWN, *MAY_DIFFER)
        and (name not in known or (name in _NAMES and said[name] != here.get(name)))
        and said[name] not in ("", None)
    ]  # fmt: skip
    for key, side in said["inputs"].items():
        told = side.items() if isinstance(side, Mapping) else [("", side)]
        unchecked += [
            f"inputs.{key}.{name}".rstrip(".")
            for name, value in told
            if not (key in names and (name == "pixels_sha256" or (name == "name" and value == names[key])))
        ]
    differs = {name: [said.get(name), here.get(name)] for name in MAY_DIFFER if said.get(name) != here.get(name)}
    return Claims(false, differs, sorted(unchecked))
