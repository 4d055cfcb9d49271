"""The same emoji as another set draws it: true pairs in two hands, indexed by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lorweb.data.catalogue import Task
from lorweb.data.editors.base import EditorFacts, EditRequest, SeedBy
from lorweb.data.editors.entries import EmojiConfig
from lorweb.data.icons import SETS, draw_icon, icon_file, icon_names
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id

VERSION: Final = 1
_ASKER: Final = "editor 'emoji'"
_SAID: Final = {
    "flat": ("make it flat", "redraw it in flat colours"),
    "glossy": ("make it glossy", "redraw it with soft glossy shading"),
    "noto": ("redraw it in the noto style", "let another artist draw it"),
}
_DRAWN: Final = ("flat", "glossy")  # what the reader `fluent` brings


def emoji_tasks() -> dict[str, Task]:
    """Every change of hand: emoji/<from>-to-<to>."""
    pairs = [(one, other) for one in _DRAWN for other in _SAID if one != other]
    names = [f"emoji/{one}-to-{other}" for one, other in pairs]
    tasks = [Task(n, "style", (), _SAID[other], ("emoji",), None) for n, (_, other) in zip(names, pairs, strict=True)]
    return {task.id: task for task in tasks}


class EmojiEditor:
    """Draws the twin of a source of the reader `fluent`; its pixels depend on the two packages and on the renderer."""

    name = "emoji"
    seed_by: SeedBy = "task"

    def __init__(self, cfg: EmojiConfig) -> None:
        """Fetches the sets that the cache lacks. Raises ValueError if one cannot be had."""
        self.revision = describe_emoji().revision
        wanted = sorted({name.rpartition("-to-")[2] for name in emoji_tasks()})
        self.files = {drawing: icon_file(drawing, cfg.cache, _ASKER) for drawing in wanted}
        self.names = {drawing: frozenset(icon_names(path)) for drawing, path in self.files.items()}

    def fits(self, task: Task, source: dict[str, Any]) -> bool:
        """Whether a source row (`origin`) is drawn as the task starts, and the other set has its name."""
        reader, _, rest = source["origin"].partition(":")
        drawing, _, name = rest.partition(":")
        start, _, end = task.id.partition("/")[2].partition("-to-")
        return reader == "fluent" and drawing == start and name in self.names[end]

    @staticmethod
    def licence(task: Task, licence: str) -> str:
        """Of a pair: the source's, and that of the other set where it is another."""
        other = SETS[task.id.rpartition("-to-")[2]][2]
        return licence if other == licence else f"{licence} AND {other}"

    def __call__(self, batch: Sequence[EditRequest]) -> list[Image.Image | Rejected]:
        """The twin of every source, or why there is none (checks `unreadable`, `no_twin`)."""
        return [self._twin(request) for request in batch]

    def _twin(self, request: EditRequest) -> Image.Image | Rejected:
        if not self.fits(request.task, {"origin": request.source.origin}):
            return Rejected("no_twin", f"'{request.source.origin}' has no other drawing for {request.task.id}")
        path: Path = self.files[request.task.id.rpartition("-to-")[2]]
        try:
            return draw_icon(path, request.source.origin.rpartition(":")[2], request.image().width)
        except Rejected as why:
            return why


def describe_emoji() -> EditorFacts:
    """Known without fetching anything."""
    packages = [package for package, *_ in SETS.values()]
    return EditorFacts("emoji", stable_id(VERSION, *packages), EmojiEditor.seed_by)
