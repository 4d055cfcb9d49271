"""The licence that a base model is under, for the model card and for the tags of a registered version."""

from dataclasses import dataclass
from typing import Final

import yaml

from lorweb.storage import StorageError
from lorweb.storage.fetched import fetched


@dataclass(frozen=True)
class BaseLicence:
    """As model cards on hubs say it: an identifier, or `other` with a name and a page."""

    licence: str
    name: str | None = None
    link: str | None = None

    @property
    def known(self) -> bool:
        """Whether anybody said it."""
        return self != UNKNOWN

    def __str__(self) -> str:
        return self.name or self.licence


UNKNOWN: Final = BaseLicence("other", "that-of-the-base-model")
_OF_NAME: Final = {
    "tiny": BaseLicence("apache-2.0"),
    "black-forest-labs/FLUX.1-Kontext-dev": BaseLicence(
        "other",
        "flux-1-dev-non-commercial-license",
        "https://huggingface.co/black-forest-labs/FLUX.1-Kontext-dev/blob/main/LICENSE.md",
    ),
}


def licence_of_base(base: str) -> BaseLicence:
    """That of the packaged base or of a known one; else what the model card in the base's folder says; else `UNKNOWN`.

    A folder behind a URI that cannot be reached says nothing either. No hub is asked.
    """
    if base in _OF_NAME:
        return _OF_NAME[base]
    try:
        card = fetched(base) / "README.md"
    except StorageError:
        return UNKNOWN
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n") if card.is_file() else []
    try:
        front = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0].strip() else None
    except yaml.YAMLError:
        return UNKNOWN
    if not isinstance(front, dict) or not front.get("license"):
        return UNKNOWN
    name, link = (str(front[key]) if front.get(key) else None for key in ("license_name", "license_link"))
    return BaseLicence(str(front["license"]), name, link)
