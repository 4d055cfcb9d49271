"""The tasks that pairs were made of travel with them: tasks.json, {id: edit_type, holdout, instructions, recipe}."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.records import stable_id

TASKS: Final = "tasks.json"
_KEYS: Final = {"edit_type", "holdout", "instructions", "recipe"}
_HOLDOUTS: Final = (None, "none", "value", "composition", "edit")


@dataclass(frozen=True)
class TaskFacts:
    """What stays known of a task. `holdout` is None where nobody has declared one."""

    edit_type: str
    holdout: str | None
    instructions: tuple[str, ...]
    recipe: str


def write_tasks(folder: Path, tasks: Mapping[str, TaskFacts]) -> None:
    """Write tasks.json into a folder, sorted: equal tasks, equal bytes."""
    text = json.dumps({name: asdict(facts) for name, facts in tasks.items()}, indent=1, sort_keys=True)
    (folder / TASKS).write_text(text + "\n", encoding="utf-8")


def read_tasks(folder: Path) -> dict[str, TaskFacts]:
    """The tasks of a folder of pairs.

    Raises:
        FileNotFoundError: the folder has no tasks.json.
        ValueError: it is not of the form that `write_tasks` writes.
    """
    path = folder / TASKS
    if not path.is_file():
        raise FileNotFoundError(f"no {path}, which says what the tasks of the pairs are; run the stages before again")
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        tasks = {
            name: TaskFacts(**{**facts, "instructions": tuple(facts["instructions"])}) for name, facts in raw.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not {{task: {{{', '.join(sorted(_KEYS))}}}}} ({error}); run generate again"
        ) from error
    for name, facts in tasks.items():
        if facts.holdout not in _HOLDOUTS:
            raise ValueError(f"{path}: task {name} has holdout '{facts.holdout}'; use one of {_HOLDOUTS}")
    return tasks


def holdouts(tasks: Mapping[str, TaskFacts], share: float, seed: int) -> dict[str, str]:
    """{task: none | value | composition | edit}: as declared, else a `share` of the tasks is held out whole ("edit").

    Which ones depends on the seed and their own names alone, so that a new task moves no other.
    """
    return {name: facts.holdout or ("edit" if _drawn(name, seed) < share else "none") for name, facts in tasks.items()}


def _drawn(name: str, seed: int) -> float:
    """A number in [0, 1) that belongs to a task."""
    return int(stable_id("holdout", seed, name), 16) / 2**64
