"""Faults that pydantic finds, as sentences for people: where, what was found, what would be right."""

import difflib
import json
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)

TAGS = ("reader", "editor", "source", "scorer")  # keys that say which entry of a list of kinds this is


def sentence(fault: Any, root: type[BaseModel]) -> str:
    """One pydantic fault as a sentence: where, what was found, what would be right."""
    loc = [str(part) for part in fault["loc"]]
    where = ".".join(loc)
    if fault["type"] == "extra_forbidden":
        siblings = _valid_keys(fault["loc"][:-1], root)
        near = difflib.get_close_matches(loc[-1], siblings, n=1, cutoff=0.0)
        section = ".".join(loc[:-1]) or "the top level"
        return f"unknown key '{loc[-1]}' in {section}; did you mean '{near[0]}'?" if near else f"unknown key '{where}'"
    if fault["type"] == "missing":
        return f"missing key '{where}'; every key must be given, there are no hidden defaults"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']!s}"
    return f"{where} is {shortened(fault['input'])}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def shortened(value: Any, most: int = 80) -> str:
    """A value for a message: its repr, the middle left out where that is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 10]} ... {text[-5:]}"


def validated(model: type[Model], found: Any, where: str) -> Model:
    """The model of some values. Raises ValueError: one sentence on the first fault, with `where` before it."""
    if not isinstance(found, dict):
        raise ValueError(f"{where.rstrip('.: ')} is {shortened(found)}, not a mapping")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise ValueError(f"{where}{sentence(error.errors()[0], model).removeprefix(': ')}") from error


def parsed_json(text: str, where: str) -> Any:
    """JSON text as values. Raises ValueError: one sentence, with `where` before it."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{where} is no JSON (it nests too deeply); use another copy") from error
    except ValueError as error:
        raise ValueError(f"{where} is no JSON ({error}); use another copy") from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is none of `known`, with the nearest of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    return f"unknown {kind} '{name}'; did you mean '{near}'? Known: {', '.join(names)}"


def _valid_keys(loc: tuple[Any, ...], root: type[BaseModel]) -> list[str]:
    """Field names of the model that sits at a location, following lists and tagged unions."""
    model: Any = root
    for part in loc:
        models = _models_in(model.model_fields[part].annotation) if _is_field(model, part) else [model]
        tagged = [m for m in models if _tag(m) == part]
        model = (tagged or models or [model])[0]
        if isinstance(part, str) and not _is_field(model, part) and tagged:
            model = tagged[0]
    return list(model.model_fields)


def _is_field(model: Any, part: Any) -> bool:
    return isinstance(part, str) and part in model.model_fields


def _tag(model: Any) -> str | None:
    field = next((model.model_fields[name] for name in TAGS if name in model.model_fields), None)
    return field.annotation.__args__[0] if field is not None and hasattr(field.annotation, "__args__") else None


def _models_in(annotation: Any) -> list[Any]:
    """All pydantic models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]
