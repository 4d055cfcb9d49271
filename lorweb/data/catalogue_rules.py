"""What a catalogue must satisfy beyond its shape: known edits, ranges, and honest hold-outs."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from lorweb.data.catalogue import Step, Task
from lorweb.data.editors.base import Number
from lorweb.data.editors.registry import EDITS

MAX_WORDS: Final = 10


def faults(tasks: tuple[Task, ...]) -> list[str]:
    """All faults of a catalogue, one sentence each; empty if it is sound."""
    found = [f"two tasks are called '{name}'" for name, n in Counter(t.id for t in tasks).items() if n > 1]
    found += [fault for task in tasks for step in task.steps for fault in _step_faults(task.id, step)]
    if found:
        return found  # the rules below presume known edits
    for check in (_form_faults, _repeated, _value_faults, _composition_faults, _edit_faults):
        found += check(tasks)
    return found


def _step_faults(task_id: str, step: Step) -> Iterable[str]:
    """Unknown edits, missing or unknown parameters, values out of range."""
    if step.edit not in EDITS:
        yield f"task {task_id}: unknown edit '{step.edit}'; did you mean '{_nearest(step.edit, EDITS)}'?"
        return
    params = EDITS[step.edit].params
    for name, value in step.params.items():
        if name not in params:
            hint = f"did you mean '{_nearest(name, params)}'?" if params else "it takes none"
            yield f"task {task_id}: edit '{step.edit}' has no parameter '{name}'; {hint}"
        elif fault := params[name].fault(value):
            yield f"task {task_id}: {step.edit}.{name} {fault}"
    for name in params:
        if name not in step.params:
            yield f"task {task_id}: edit '{step.edit}' needs the parameter '{name}'"


def _nearest(word: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


def _form_faults(tasks: tuple[Task, ...]) -> Iterable[str]:
    """Order of steps, families, and the wording of instructions."""
    for task in tasks:
        if any(EDITS[step.edit].draws for step in task.steps[1:]):
            yield f"task {task.id}: '{task.steps[1].edit}' draws anew and would undo the first step; put it first"
        if task.edit_type not in {EDITS[step.edit].family for step in task.steps}:
            yield f"task {task.id}: edit_type '{task.edit_type}' is the family of none of its steps"
        if (task.holdout == "composition") and len(task.steps) < 2:
            yield f"task {task.id}: holdout 'composition' needs two steps"
        for text in task.instructions:
            if text != text.lower() or not text.strip() or len(text.split()) > MAX_WORDS:
                yield f"task {task.id}: instruction '{text}' must be lower case and at most {MAX_WORDS} words"


def _repeated(tasks: tuple[Task, ...]) -> Iterable[str]:
    """Two tasks that do the same, or that are told by the same words."""
    done: dict[object, str] = {}
    for task in tasks:
        steps = tuple((s.edit, tuple(sorted(s.params.items()))) for s in task.steps)
        for what in (steps, *task.instructions):
            if what in done:
                yield f"task {task.id} repeats {done[what]}: both are {what!r}"
            done[what] = task.id


def _value_faults(tasks: tuple[Task, ...]) -> Iterable[str]:
    """An unseen value lies strictly between two trained values of one parameter, all else equal."""
    trained = [t.steps[0] for t in tasks if t.trained and len(t.steps) == 1]
    for task in tasks:
        if task.holdout == "value":
            if len(task.steps) != 1:
                yield f"task {task.id}: holdout 'value' is for one step; call it a composition"
            elif not any(_between(task.steps[0], name, trained) for name in task.steps[0].params):
                yield (
                    f"task {task.id}: no numeric parameter of '{task.steps[0].edit}' lies between trained values "
                    "with its other parameters equal; train a value below and one above"
                )


def _between(step: Step, name: str, trained: list[Step]) -> bool:
    value = step.params[name]
    if not isinstance(EDITS[step.edit].params[name], Number) or isinstance(value, str):
        return False
    alike = [s for s in trained if s.edit == step.edit and _rest(s.params, name) == _rest(step.params, name)]
    known = [s.params[name] for s in alike]
    numbers = [v for v in known if not isinstance(v, str)]
    return value not in numbers and any(v < value for v in numbers) and any(v > value for v in numbers)


def _rest(params: Mapping[str, object], name: str) -> dict[str, object]:
    return {k: v for k, v in params.items() if k != name}


def _composition_faults(tasks: tuple[Task, ...]) -> Iterable[str]:
    """Steps of an unseen composition are each a trained task on their own; the pair is trained in neither order."""
    single = [(s.edit, dict(s.params)) for t in tasks if t.trained and len(t.steps) == 1 for s in t.steps]
    pairs = [{s.edit for s in t.steps} for t in tasks if t.trained and len(t.steps) > 1]
    for task in tasks:
        if task.holdout == "composition":
            for step in task.steps:
                if (step.edit, dict(step.params)) not in single:
                    yield f"task {task.id}: '{step.edit}' with {dict(step.params)} is not trained on its own"
            if {s.edit for s in task.steps} in pairs:
                yield f"task {task.id}: the same two edits are trained together in another task"


def _edit_faults(tasks: tuple[Task, ...]) -> Iterable[str]:
    """An unseen edit is used by no trained task; a step that only held-out tasks use makes its task an unseen edit."""
    used = {step.edit for task in tasks if task.trained for step in task.steps}
    for task in tasks:
        edits = {step.edit for step in task.steps}
        if task.holdout == "edit" and edits & used:
            yield f"task {task.id}: holdout 'edit' but trained tasks use '{sorted(edits & used)[0]}'"
