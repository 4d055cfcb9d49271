"""Names of image encoders as other programs write them."""

import re
from pathlib import Path
from typing import Final

from lorweb.basis.encoders import PACKAGED
from lorweb.basis.vision import READERS
from lorweb.config_errors import parsed_json

_FAMILIES: Final = {"clip": "clip", "siglip": "siglip2", "siglip2": "siglip2"}  # word in a model's name -> our reader


def our_name(model: str | None) -> str | None:
    """Their name of an encoder as ours; the family is what its folder says, or a word of its name. None if neither."""
    if model is None or model == PACKAGED or model.partition(":")[0] in READERS:
        return model
    settings = Path(model) / "config.json"
    if settings.is_file():
        found = parsed_json(settings.read_text(encoding="utf-8"), str(settings))
        words = [str(found.get("model_type", "")).split("_")[0]] if isinstance(found, dict) else []
    else:
        words = re.split(r"[^a-z0-9]+", model.lower())
    family = next((_FAMILIES[word] for word in words if word in _FAMILIES), None)
    return None if family is None else f"{family}:{model}"
