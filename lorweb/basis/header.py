"""What our own checkpoint says of itself: the JSON object under `lorweb` in the metadata of its safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorweb.basis.config import BasisConfig
from lorweb.config_errors import parsed_json, sentence, shortened

FORMAT: Final = "lorweb-basis"
SCHEMA: Final = 1
LAYER: Final = r"^[^.\s]+(\.[^.\s]+)*$"  # a module path: names with single dots between them


class Header(BaseModel):
    """Everything that the tensors do not say.

    Raises:
        ValueError (pydantic's ValidationError): a missing or unknown field, or a value of another type.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["lorweb-basis"] = "lorweb-basis"
    schema_: Literal[1] = Field(1, alias="schema")
    config: BasisConfig
    layers: Annotated[list[Annotated[str, Field(pattern=LAYER)]], Field(min_length=1)]  # in the order of the model
    sha256: str  # of the tensors, as `lorweb.basis.checkpoint` counts them
    extra: dict[str, str]  # facts of the caller: base revision, catalogue hash, encoder, ...

    def text(self) -> str:
        """Canonical JSON: equal headers are equal bytes."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)


def read_header(path: Path, metadata: Mapping[str, str]) -> Header:
    """The header in the metadata of a file, which messages call `path`.

    Raises:
        ValueError: no lorweb checkpoint, of another schema, or damaged; one sentence with the first fault.
    """
    text = metadata.get("lorweb", "{}")
    found = parsed_json(text, f"{path}: the metadata")
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the metadata is {shortened(found)}, not an object; use another copy")
    if found.get("format") != FORMAT:
        raise ValueError(f"{path} is no lorweb checkpoint; for the official format use load_official, or convert it")
    if found.get("schema") != SCHEMA or found["schema"] is True:
        raise ValueError(
            f"{path} has schema {shortened(found.get('schema'))}, this version reads {SCHEMA}; update lorweb"
        )
    try:
        return Header.model_validate_json(text)  # as JSON: a list there is a tuple here
    except ValidationError as error:
        raise ValueError(f"{path}: {sentence(error.errors()[0], Header)}; use another copy") from error
