"""Tasks that a language model invents: what it is asked, and a strict reading of what it replies.

A reply is never repaired: what is not exactly as asked for is refused with a reason.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lorweb.data.catalogue import Task
from lorweb.data.editors.base import FAMILIES
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id

VERSION: Final = 1  # of the prompt
_KEYS: Final = ("id", "edit_type", "instructions")
_ID: Final = re.compile(r"[a-z]+/[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST_ID: Final = 64
_LEAST, _MOST = 2, 3  # instructions of a task
_FENCE: Final = re.compile(r"```(?:json)?\n(.*)\n```", re.DOTALL)
_EXAMPLES: Final = 4
_ABOUT: Final = {
    "style": "how the image is painted, drawn or rendered",
    "colour": "its colours, tones or light",
    "weather": "weather, season or time of day",
    "object": "a thing that is added, taken away or replaced",
    "geometry": "mirroring, turning, framing or cropping",
    "attribute": "one property of the subject: what it wears, its expression, its material",
}


def prompt_for(number: int, per_call: int, tasks: Sequence[Task], seed: int) -> str:
    """The request of call `number`: calls take the families in turns, with examples that the seed draws."""
    family = FAMILIES[number % len(FAMILIES)]
    own = [task for task in tasks if task.edit_type == family]
    drawn = sorted(own, key=lambda task: stable_id("example", seed, number, task.id))[:_EXAMPLES]
    examples = [{"id": t.id, "edit_type": t.edit_type, "instructions": list(t.instructions[:_MOST])} for t in drawn]
    return (
        f"Invent {per_call} image editing tasks of the family '{family}': {_ABOUT[family]}. Each must be possible on "
        "any photo or drawing, visible at a glance, and unlike the others. Reply with a JSON list and nothing else. "
        f'Every entry has exactly the keys "id" ("{family}/" and a short name in lower case with hyphens), "edit_type" '
        f'("{family}") and "instructions" ({_LEAST} or {_MOST} short imperative sentences that mean the same).\n'
        f"Examples:\n{json.dumps(examples, indent=1)}\n"
    )


@dataclass
class Parsed:
    """What replies gave so far. `rejected`: (where, why) in the order of the replies."""

    tasks: dict[str, Task] = field(default_factory=dict)
    rejected: list[tuple[str, Rejected]] = field(default_factory=list)


class ReplyReader:
    """Reads replies one after another; a later task that repeats an earlier one, or a `known` one, is refused."""

    def __init__(self, known: Iterable[Task], max_words: int) -> None:
        self.max_words, self.parsed = max_words, Parsed()
        known = list(known)
        self._ids = {task.id for task in known}
        self._said = {_plain(text) for task in known for text in task.instructions}

    def read(self, name: str, reply: str) -> None:
        """Add the tasks of one reply; `name` is what rejects call it, its entries are `name#0`, `name#1`, ..."""
        try:
            entries = _entries(reply)
        except Rejected as why:
            self.parsed.rejected.append((name, why))
            return
        for place, entry in enumerate(entries):
            try:
                task = self._task(entry)
            except Rejected as why:
                self.parsed.rejected.append((f"{name}#{place}", why))
                continue
            self._ids.add(task.id)
            self._said |= {_plain(text) for text in task.instructions}
            self.parsed.tasks[task.id] = task

    def _task(self, entry: Any) -> Task:
        """Raises `Rejected` with the first fault."""
        if not isinstance(entry, dict):
            raise Rejected("not_an_object", f"an entry is {_short(entry)}, not an object with {', '.join(_KEYS)}")
        for key in entry:
            if key not in _KEYS:
                raise Rejected(
                    "unknown_key", f"an entry has the key '{_short(key)}'; only {', '.join(_KEYS)} are asked for"
                )
        for key in _KEYS:
            if key not in entry:
                raise Rejected("missing_key", f"an entry has no '{key}'")
        family, name = entry["edit_type"], entry["id"]
        if family not in FAMILIES:
            raise Rejected("unknown_family", f"edit_type is {_short(family)}, not one of {', '.join(FAMILIES)}")
        if not isinstance(name, str) or not _ID.fullmatch(name) or len(name) > _LONGEST_ID:
            raise Rejected("bad_id", f"id is {_short(name)}, not {family}/ and a short name in lower case with hyphens")
        if name.partition("/")[0] != family:
            raise Rejected("bad_id", f"id '{name}' does not begin with its edit_type '{family}'")
        if name in self._ids:
            raise Rejected("duplicate", f"there is a task '{name}' already")
        said = self._instructions(name, entry["instructions"])
        return Task(name, family, (), said, ("*",), None)

    def _instructions(self, name: str, said: Any) -> tuple[str, ...]:
        if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
            raise Rejected("not_text", f"the instructions of '{name}' are {_short(said)}, not a list of texts")
        if not _LEAST <= len(said) <= _MOST:
            reason = f"'{name}' has {len(said)} instructions; {_LEAST} or {_MOST} are asked for"
            raise Rejected("instruction_count", reason, len(said), _LEAST if len(said) < _LEAST else _MOST)
        texts = tuple(" ".join(text.split()) for text in said)
        for text in texts:
            words = len(text.split())
            if not words or not text.isprintable():
                raise Rejected("not_text", f"an instruction of '{name}' is {_short(text)}")
            if words > self.max_words:
                raise Rejected("too_long", f"an instruction of '{name}' has {words} words", words, self.max_words)
        plain = [_plain(text) for text in texts]
        if len(set(plain)) < len(plain) or self._said & set(plain):
            raise Rejected("duplicate", f"'{name}' says what another instruction says: {_short(list(texts))}")
        return texts


def _entries(reply: str) -> list[Any]:
    """The JSON list of a reply, bare or in one code fence around all of it. Raises `Rejected`."""
    text = reply.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Rejected("not_json", f"the reply is not JSON ({str(error)[:80]}): {_short(text)}") from error
    if not isinstance(found, list) or not found:
        raise Rejected("not_a_list", f"the reply is {_short(found)}, not a list of tasks")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key that comes twice makes the reply ambiguous. Raises ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _plain(text: str) -> str:
    """An instruction without case, marks and spaces: two that agree in it are one."""
    return "".join(c for c in text.casefold() if c.isalnum())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)
    text = " ".join(text.split())
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")[1:-1] or '""'
