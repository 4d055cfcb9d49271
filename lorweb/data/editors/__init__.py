"""Editors make after-images of sources; the embedded one applies the named edits of the registry."""

from lorweb.data.editors.base import FAMILIES, Edit, Editor, EditRequest, SourceFacts, SourceInfo
from lorweb.data.editors.embedded import EmbeddedEditor, apply_task
from lorweb.data.editors.registry import EDITS

__all__ = [
    "EDITS",
    "FAMILIES",
    "Edit",
    "EditRequest",
    "Editor",
    "EmbeddedEditor",
    "SourceFacts",
    "SourceInfo",
    "apply_task",
]
