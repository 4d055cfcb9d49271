"""The registry of named edits, and the editor that applies tasks made of them."""

from lorweb.data.editors.base import FAMILIES, Edit, SourceInfo
from lorweb.data.editors.embedded import EmbeddedEditor, apply_task
from lorweb.data.editors.registry import EDITS

__all__ = ["EDITS", "FAMILIES", "Edit", "EmbeddedEditor", "SourceInfo", "apply_task"]
