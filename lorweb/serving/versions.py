"""Versions of the registered model as lorweb reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lorweb.serving.artifacts import CONTENT
from lorweb.serving.history import versions_of

ALIASES: Final = ("candidate", "champion", "previous")


@dataclass(frozen=True)
class Version:
    """One version of the registered model."""

    number: int
    content: str  # hash of its files
    aliases: tuple[str, ...]
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    created: int = 0  # ms since 1970
    description: str = ""


def read_versions(client: Any, model: str, aliases: Mapping[str, int]) -> list[Version]:
    """All versions, oldest first; empty if the model was never registered."""
    versions = [
        Version(
            int(v.version),
            v.tags.get(CONTENT, ""),
            tuple(a for a in ALIASES if aliases.get(a) == int(v.version)),
            v.run_id or "",
            dict(v.tags),
            int(v.creation_timestamp or 0),
            v.description or "",
        )
        for v in versions_of(client, model)
    ]
    return sorted(versions, key=lambda version: version.number)
