"""The task catalogue: one YAML file that says what every task is, what it is called, and what about it is held out."""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorweb.data.tasks import TaskFacts
from lorweb.records import stable_id

PACKAGED: Final = Path(__file__).with_name("catalogue.yaml")

Value = float | str  # integers are floats without a fraction
Holdout = Literal["none", "value", "composition", "edit"]


@dataclass(frozen=True)
class Step:
    """One named edit with its parameters."""

    edit: str
    params: Mapping[str, Value]


class _Entry(BaseModel):
    """A task as it stands in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: Annotated[str, Field(pattern=r"^[a-z]+/[a-z0-9-]+$")]
    edit_type: Literal["style", "colour", "weather", "object", "geometry", "attribute"]
    steps: Annotated[tuple[dict[str, float | str], ...], Field(min_length=1, max_length=2)]
    instructions: Annotated[tuple[str, ...], Field(min_length=2, max_length=3)]
    fits: Annotated[tuple[str, ...], Field(min_length=1)]
    holdout: Holdout


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        fits: patterns of source categories (`fnmatch`) that it can be applied to.
        steps: what the embedded editor does; none for tasks that only an instruction or given images describe.
        holdout: "none" if it may be trained, else what about it training never sees; None is decided at assembling.
    """

    id: str
    edit_type: str
    steps: tuple[Step, ...]
    instructions: tuple[str, ...]
    fits: tuple[str, ...]
    holdout: Holdout | None

    @property
    def trained(self) -> bool:
        return self.holdout == "none"

    @property
    def recipe(self) -> str:
        """Hash of what the task does, not of what it is called or told: pairs are made again when this changes."""
        steps = (f"{step.edit} {sorted(step.params.items())}" for step in self.steps)
        return stable_id(self.edit_type, *steps)

    def fits_category(self, category: str) -> bool:
        """True if the task can be applied to sources of a category."""
        return any(fnmatchcase(category, pattern) for pattern in self.fits)


def facts_of(tasks: Iterable[Task]) -> dict[str, TaskFacts]:
    """What pairs carry on of their tasks, by id. Raises ValueError if two sources mean different things by one id."""
    found: dict[str, TaskFacts] = {}
    for task in tasks:
        facts = TaskFacts(task.edit_type, task.holdout, task.instructions, task.recipe)
        if found.setdefault(task.id, facts) != facts:
            raise ValueError(f"two sources of tasks give the task '{task.id}', and not the same; rename one of them")
    return found


@dataclass(frozen=True)
class Catalogue:
    """All tasks in file order. `sha256` is of the file: stored in every model, compared at load."""

    tasks: tuple[Task, ...]
    sha256: str

    def task(self, task_id: str) -> Task:
        """The task of an id. Raises ValueError that names the nearest id."""
        for task in self.tasks:
            if task.id == task_id:
                return task
        near = difflib.get_close_matches(task_id, [t.id for t in self.tasks], n=1, cutoff=0.0)
        raise ValueError(f"no task '{task_id}' in the catalogue; did you mean '{near[0]}'?")


def load_catalogue(path: Path = PACKAGED) -> Catalogue:
    """Read and check a catalogue.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one sentence per fault: unknown edits or parameters, values out of range, broken hold-out rules.
    """
    from lorweb.data.catalogue_rules import faults  # the rules know the edits, which import Pillow and numpy

    data = path.read_bytes()
    tasks = parse_tasks(data, str(path))
    found = faults(tasks)
    if found:
        raise ValueError("\n".join(f"{path}: {fault}" for fault in found))
    return Catalogue(tasks, hashlib.sha256(data).hexdigest())


def parse_tasks(data: bytes, name: str) -> tuple[Task, ...]:
    """Tasks of a file's bytes, shape checked, edits not yet. Raises ValueError."""
    try:
        raw = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not YAML: {error}") from error
    if not isinstance(raw, dict) or list(raw) != ["tasks"] or not isinstance(raw["tasks"], list) or not raw["tasks"]:
        raise ValueError(f"{name} must hold one key 'tasks' with a list of tasks")
    return tuple(_task(item, f"{name}: task {i}") for i, item in enumerate(raw["tasks"]))


def _task(item: Any, where: str) -> Task:
    if isinstance(item, dict) and isinstance(item.get("id"), str):
        where = f"{where} ({item['id']})"
    try:
        entry = _Entry.model_validate(item)
    except ValidationError as error:
        raise ValueError("\n".join(f"{where}: {_sentence(fault)}" for fault in error.errors())) from error
    return Task(
        id=entry.id,
        edit_type=entry.edit_type,
        steps=tuple(_step(step, where) for step in entry.steps),
        instructions=entry.instructions,
        fits=entry.fits,
        holdout=entry.holdout,
    )


def _step(step: dict[str, Value], where: str) -> Step:
    edit = step.get("edit")
    if not isinstance(edit, str):
        raise ValueError(f"{where}: step {step} names no edit; write {{edit: NAME, ...}}")
    return Step(edit, {name: value for name, value in step.items() if name != "edit"})


def _sentence(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(fault["loc"][-1]), list(_Entry.model_fields), n=1, cutoff=0.0)[0]
        return f"unknown key '{key}'; did you mean '{near}'?"
    return f"{key}: {fault['msg']}, got {fault['input']!r}"
