"""Text that others wrote (file names, metadata of pictures, messages), before it reaches a terminal."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from lorweb.kontext.quiet import Note

# C0 but tab and newline, DEL, C1, and what turns the direction of writing: they can move the cursor or hide words
_CODES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


_HALVES: Final = re.compile(r"[\ud800-\udfff]")  # of surrogate pairs: what Python makes of bytes that are no UTF-8


def check_characters(text: str, name: str) -> None:
    """Raises ValueError where a text cannot be written as UTF-8; `name` is what the sentence calls it."""
    found = _HALVES.search(text)
    if found is not None:
        raise ValueError(
            f"{name} holds half of a surrogate pair at {found.start()}, as text has it that came in another encoding; "
            "give whole characters, in UTF-8"
        )


def plain(text: object) -> str:
    """The text without control codes; tabs and newlines stay, and what is no UTF-8 is shown as an escape."""
    return _CODES.sub("", str(text)).encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: object) -> str:
    """As `plain`, on one line: a line break in a name would begin a line that says what it likes."""
    return " ".join(plain(text).splitlines())


def escaped(json_text: str) -> str:
    """The same JSON with every control code, and what is no UTF-8, as an escape; outside its strings there is none."""
    for strange in (_CODES, _HALVES):
        json_text = strange.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
    return json_text


def first_line(error: BaseException) -> str:
    """What an error says first; its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def notes_to(say: Callable[[str], None]) -> Iterator[None]:
    """Each `Note` is said once, as plain text; other warnings are shown as Python shows them."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning
        warnings.simplefilter("always", Note)

        def tell(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, Note):
                show(message, category, filename, lineno, file, line)
            elif str(message) not in seen:
                seen.add(str(message))
                say(plain(message))

        warnings.showwarning = tell
        yield
