"""Sources x tasks through the editor -> data/candidates: pairs (a, a')."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from lorweb.config import Generate, load_params
from lorweb.data.catalogue import Task, load_catalogue
from lorweb.data.choice import choose_sources, recipe_of
from lorweb.data.decode import encode_png
from lorweb.data.editors import EmbeddedEditor
from lorweb.data.manifest import Manifest, fingerprint, write_manifest
from lorweb.data.rejects import Rejected
from lorweb.data.shards import RowReader, read_index, write_rows, write_shards
from lorweb.records import PAIR, REJECT, SOURCE, stable_id
from pipelines._metrics import count
from pipelines._rows import Execute, Item, Result, RowJob, run_rows
from pipelines._stage import StageFailed, publishing, seed_of, stage

VERSION: Final = 1
OUT, SOURCES = Path("data/candidates"), Path("data/sources")
COPIED: Final = ("subject", "category", "licence")  # facts of a source that its pairs carry on


class EditSources:
    """The worker: (task, source, seed) -> pair."""

    def __init__(self, sources: str, tasks: Mapping[str, Task]) -> None:
        self.rows = RowReader(Path(sources), SOURCE, ["image", "origin", "category"])
        self.tasks = tasks
        self.editor = EmbeddedEditor()

    def __call__(self, items: list[Item]) -> list[Result]:
        return [self._edit(item) for item in items]

    def _edit(self, item: Item) -> Result:
        task, source = self.tasks[item["task"]], self.rows(item["at"])
        try:
            after = self.editor.edit(task, source, item["seed"])
        except Rejected as why:
            return why
        return {
            "id": item["id"],
            "task": task.id,
            "edit_type": task.edit_type,
            "instruction": item["instruction"],
            "source_id": item["source_id"],
            **{name: item[name] for name in COPIED},
            "before": source["image"],
            "after": encode_png(after),
            "seed": item["seed"],
            "editor": self.editor.name,
            "editor_revision": self.editor.revision,
            "scores": "{}",
        }


def chosen_tasks(tasks: Sequence[Task], patterns: Sequence[str]) -> dict[str, Task]:
    """Tasks whose id matches a pattern. Raises ValueError for a pattern that matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(task.id, pattern) for task in tasks):
            raise ValueError(f"generate.tasks: no task of the catalogue matches '{pattern}'; correct or drop it")
    return {task.id: task for task in tasks if any(fnmatchcase(task.id, pattern) for pattern in patterns)}


def plan(cfg: Generate, tasks: Mapping[str, Task], sources: Sequence[Mapping[str, Any]], seed: int) -> list[Item]:
    """One item per pair to make. The seed is the task's: an exemplar shows the pattern its query will get."""
    items = []
    for task in tasks.values():
        for source in choose_sources(task, sources, cfg.sources_per_task, seed):
            for turn in range(cfg.seeds_per_pair):
                drawn = seed_of("edit", seed, task.id, turn)
                wording = seed_of("instruction", task.id, source["id"], turn) % len(task.instructions)
                facts = {name: source[name] for name in COPIED}
                items.append(
                    {
                        "id": stable_id(task.id, source["id"], drawn),
                        "task": task.id,
                        "recipe": recipe_of(task),
                        "instruction": task.instructions[wording],
                        "source_id": source["id"],
                        "source_sha256": source["sha256"],
                        "seed": drawn,
                        **facts,
                        "at": source["at"],
                    }
                )
    return items


def main(execute: Execute | None = None) -> None:
    """Run the stage from its parameters, on Ray unless another executor is given."""
    params = load_params()
    cfg = params.generate
    with stage("generate") as metrics:
        tasks = chosen_tasks(load_catalogue().tasks, cfg.tasks)
        sources = read_index(SOURCES, SOURCE, ["id", "sha256", *COPIED])
        items = plan(cfg, tasks, sources, params.seed)
        if not items:
            raise StageFailed("no source fits any task; see metrics/collect.json for what was collected")
        job = RowJob(
            stage="generate",
            function="edit",
            worker=EditSources,
            arguments=(str(SOURCES.resolve()), tasks),
            identity=(VERSION, EmbeddedEditor.name, EmbeddedEditor().revision),
            schema=PAIR,
            pool=cfg.pool,
            max_error_rate=cfg.max_error_rate,
        )
        results = run_rows(job, items, execute)
        recipe = cfg.model_dump(mode="json", include={"editor", "tasks", "sources_per_task", "seeds_per_pair"})
        with publishing(OUT, "generate") as folder:
            rows = write_shards(results.tables(), folder, PAIR)
            write_rows(results.rejects, folder / "rejects", REJECT)
            inputs = {"sources": fingerprint(SOURCES)}
            write_manifest(folder, Manifest(rows, inputs, {"seed": params.seed, **recipe}, {"edit": VERSION}))
        unused = sorted(set(tasks) - {item["task"] for item in items})
        kinds = Counter(tasks[item["task"]].edit_type for item in items)
        metrics.update(
            count(len(items), rows, results.rejects, {"edit": results.pace}),
            asked_by_edit_type=kinds,
            tasks_without_source=unused,
        )


if __name__ == "__main__":
    main()
