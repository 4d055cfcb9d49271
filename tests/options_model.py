"""All options that the parameters have, read off the models of lorweb/config.py: one for every key and choice.

An option is (key, value). Choices and switches have an option for each value, entries of lists one section for each
kind (`generate.editors[kontext].dtype`), a number or a text one option, "any", unless a bound of it switches something.
"""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from lorweb.basis.encoders import PACKAGED
from lorweb.basis.query import MODES
from lorweb.basis.vision import READERS
from lorweb.config import Params
from lorweb.config_errors import TAGS
from lorweb.evaluation.entries import DIRECTION, PERCEPTUAL
from lorweb.evaluation.entries import PACKAGED as PACKAGED_NETWORK
from lorweb.hub import is_hub_id


class Option(NamedTuple):
    """A key with dots, and one of its values as a text."""

    key: str
    value: str


ALL: Final = object()  # in the place of a value: every value that the type allows
ANY: Final = "any"
SPLITS: Final[Mapping[str, tuple[str, ...]]] = {  # last part of a key -> bounds that switch something
    **dict.fromkeys(("gpus", "gpus_per_worker", "composed", "grid_analogies", "count", "holdout_tasks"), ("0", "> 0")),
    **dict.fromkeys(("warmup_steps", "weight_decay", "flips", "retries", "distance"), ("0", "> 0")),
    **dict.fromkeys(("workers", "accumulate", "heads", "seeds_per_pair"), ("1", "> 1")),
    "caption_dropout": ("0", "> 0", "1"),
}
TEXTS: Final[Mapping[str, tuple[str, ...]]] = {  # texts that name one of a kind
    "encode.base": ("tiny", "a folder", "a hub id"),
    "encode.encoder": (PACKAGED, *(f"{kind}:" for kind in READERS)),
    "encode.query_mode": tuple(MODES),
    "evaluate.seeds": ("1", ANY),
    "evaluate.perceptual": (PACKAGED_NETWORK, *(f"{kind}:" for kind in PERCEPTUAL)),
    "evaluate.direction": (PACKAGED_NETWORK, *(f"{kind}:" for kind in DIRECTION)),
}


def all_options() -> list[Option]:
    """Every option there is, in the order of the models."""
    return list(dict.fromkeys(options(Params, "")))


def used(stage: str, params: Mapping[str, Any]) -> set[Option]:
    """The options that a stage's section of a parameter tree uses; keys that no model has any more are left out."""
    sections = {name: params[name] for name in ("seed", "storage", stage) if name in params}
    return set(options(Params, "", sections))


def options(kind: Any, key: str, value: Any = ALL) -> Iterator[Option]:
    """Options below a key of a type; with a value, those of them that the value uses."""
    limits: tuple[Any, ...] = ()
    if get_origin(kind) is Annotated:
        kind, *rest = get_args(kind)
        limits = tuple(limit for one in rest for limit in (getattr(one, "metadata", None) or [one]))
    if get_origin(kind) in (Union, UnionType):
        yield from _union(kind, key, value)
    elif _is_section(kind):
        for name, field in kind.model_fields.items():
            shown = field.alias or name
            if value is ALL or shown in value:
                below = f"{key}.{shown}" if key else shown
                limited = Annotated[field.annotation, *field.metadata, "as declared"]
                yield from options(limited, below, ALL if value is ALL else value[shown])
    elif get_origin(kind) is tuple:
        yield from _list(kind, key, value, any(getattr(limit, "min_length", 0) for limit in limits))
    elif kind is bool or get_origin(kind) is Literal:
        known = (True, False) if kind is bool else get_args(kind)
        yield from (Option(key, _text(one)) for one in known if value is ALL or value == one)
    else:
        yield from _plain(key, value)


def _union(kind: Any, key: str, value: Any) -> Iterator[Option]:
    members = [member for member in get_args(kind) if member is not type(None)]
    if len(members) < len(get_args(kind)):
        if value is ALL or value is None:
            yield Option(key, "null")
        if value is None:
            return
    for member in members:
        tag = _tag(member)
        if tag is None and (value is ALL or _is_section(member) == isinstance(value, Mapping)):
            yield from options(member, key, value)
        elif tag is not None and (value is ALL or value.get(tag[0]) == tag[1]):
            yield from options(member, f"{key}[{tag[1]}]", value)


def _tag(kind: Any) -> tuple[str, str] | None:
    if not _is_section(kind):
        return None
    name = next((name for name in TAGS if name in kind.model_fields), None)
    return (name, get_args(kind.model_fields[name].annotation)[0]) if name else None


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _list(kind: Any, key: str, value: Any, never_empty: bool) -> Iterator[Option]:
    item = get_args(kind)[0]
    if get_args(kind)[1] is not Ellipsis:  # so many numbers, as betas
        yield Option(key, ANY)
        return
    if not never_empty and (value is ALL or not value):
        yield Option(key, "[]")
    inner = list(options(item, key, ALL))
    if inner == [Option(key, ANY)]:
        if value is ALL or value:
            yield Option(key, "some")
        return
    for entry in [ALL] if value is ALL else value:
        yield from options(item, key, entry)


def _plain(key: str, value: Any) -> Iterator[Option]:
    split = SPLITS.get(key.rsplit(".", 1)[-1])
    known = TEXTS.get(key) or split or (ANY,)
    if value is ALL:
        yield from (Option(key, one) for one in known)
    elif key in TEXTS:
        yield Option(key, _kind_of_text(str(value), known))
    elif split is None:
        yield Option(key, ANY)
    else:
        yield Option(key, _text(value) if _text(value) in split else next(one for one in split if one[0] == ">"))


def _kind_of_text(value: str, known: tuple[str, ...]) -> str:
    if value in known:
        return value
    if "a folder" in known:
        return "a hub id" if is_hub_id(value) else "a folder"
    return next((one for one in known if one.endswith(":") and value.startswith(one)), ANY)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
