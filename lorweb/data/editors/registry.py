"""All edits by name."""

from typing import Final

from lorweb.data.editors import attribute, colour, geometry, objects, style, weather
from lorweb.data.editors.base import Edit

_ALL: Final = (*style.EDITS, *colour.EDITS, *weather.EDITS, *objects.EDITS, *geometry.EDITS, *attribute.EDITS)
EDITS: Final[dict[str, Edit]] = {edit.name: edit for edit in _ALL}
assert len(EDITS) == len(_ALL), "two edits share a name"
