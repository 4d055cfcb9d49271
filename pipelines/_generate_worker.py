"""Generate: the worker of one editor."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorweb.data.catalogue import Task
from lorweb.data.decode import encode_png
from lorweb.data.editors.base import EditorFacts, EditRequest, SourceFacts, checked
from lorweb.data.editors.build import build_editor
from lorweb.data.editors.entries import DiffusersConfig, EditorConfig, KontextConfig
from lorweb.data.plugins import load_class
from lorweb.data.rejects import Rejected
from lorweb.data.shards import RowReader
from lorweb.records import SOURCE
from pipelines._rows import Item, Result

COPIED: Final = ("subject", "category", "licence")  # facts of a source that its pairs carry on
REGISTRY: Final = "lorweb/data/editors/build.py"
MODULES: Final = {KontextConfig: "kontext.py", DiffusersConfig: "stock.py"}  # kinds that it imports when asked


def picked(entry: EditorConfig) -> dict[str, str]:
    """The code of an entry's own kind, for `RowJob.picked`."""
    if entry.editor == "python":
        return {REGISTRY: inspect.getsourcefile(load_class(entry.class_, f"editor '{entry.class_}'")) or ""}
    name = MODULES.get(type(entry))
    return {REGISTRY: f"lorweb/data/editors/{name}" if name else ""}


class EditSources:
    """The worker: (task, source, seed) -> pair."""

    def __init__(self, sources: str, tasks: Mapping[str, Task], entry: EditorConfig, facts: EditorFacts) -> None:
        self.rows = RowReader(Path(sources), SOURCE, ["image"])
        self.tasks, self.facts = tasks, facts
        self.editor, self.fault = None, ""
        try:
            self.editor = build_editor(entry, Path(sources))
        except (ValueError, OSError) as error:  # told row by row: what an actor raises while it is made is hard to read
            self.fault = str(error)

    def __call__(self, items: list[Item]) -> list[Result]:
        if self.editor is None:
            return [Rejected("error", self.fault) for _ in items]
        requests = [self._request(item) for item in items]
        answers = checked(self.editor(requests), requests)
        return [self._pair(*row) for row in zip(items, requests, answers, strict=True)]

    def _request(self, item: Item) -> EditRequest:
        image = self.rows(item["at"])["image"]
        source = SourceFacts(item["source_id"], image, item["origin"], item["category"], item["caption"])
        return EditRequest(self.tasks[item["task"]], source, item["instruction"], item["seed"])

    def _pair(self, item: Item, request: EditRequest, answer: Any) -> Result:
        if isinstance(answer, Rejected):
            return answer
        return {
            "id": item["id"],
            "task": request.task.id,
            "edit_type": request.task.edit_type,
            "instruction": item["instruction"],
            "source_id": item["source_id"],
            **{name: item[name] for name in COPIED},
            "before": request.source.image,
            "after": encode_png(answer),
            "seed": item["seed"],
            "editor": self.facts.name,
            "editor_revision": self.facts.revision,
            "scores": "{}",
        }
