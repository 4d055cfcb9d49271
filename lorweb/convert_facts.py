"""What another program's checkpoint looked like, kept in our metadata: enough to write its files again."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from lorweb.basis.files import read_dtypes, read_metadata
from lorweb.config_errors import parsed_json, validated

Dtype = Literal["float16", "bfloat16", "float32"]
_NAMES: Final[dict[str, Dtype]] = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


class CameAs(BaseModel):
    """The official files that a basis came from; without them the defaults of that format.

    The name is a file's, never a path: it decides where conversion writes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[^./\\\x00][^/\\\x00]*$", max_length=200)] = "lorweb"
    dtype: Dtype = "float16"  # of most tensors
    dtypes: dict[str, Dtype] = {}  # of the others, by key
    header: list[tuple[str, str]] = [("format", "pt")]  # of the safetensors file, in its order
    config: str | None = None  # config.yaml, letter for letter
    metadata: str | None = None  # metadata.json as conversion made it from these files

    def text(self) -> str:
        """Canonical JSON."""
        return self.model_dump_json()


def parse_came_as(text: str | None, path: Path) -> CameAs:
    """The inverse of `CameAs.text`; `path` is what messages call the file. Raises ValueError."""
    where = f"{path}: the fact 'official'"
    return CameAs() if text is None else validated(CameAs, parsed_json(text, where), f"{where}: ")


def look_at(weights: Path, config: str, metadata: str | None) -> CameAs:
    """How these files look; the tensors are not read.

    Raises:
        ValueError: a dtype that no basis has.
    """
    found = read_dtypes(weights)
    strange = sorted(key for key, name in found.items() if name not in _NAMES)
    if strange:
        raise ValueError(f"{weights}: '{strange[0]}' is {found[strange[0]]}; a basis is {', '.join(_NAMES.values())}")
    dtypes = {key: _NAMES[name] for key, name in found.items()}
    usual = max(sorted(set(dtypes.values())), key=lambda name: list(dtypes.values()).count(name))
    return CameAs(
        name=weights.stem,
        dtype=usual,
        dtypes={key: name for key, name in dtypes.items() if name != usual},
        header=list(read_metadata(weights).items()),
        config=config,
        metadata=metadata,
    )
