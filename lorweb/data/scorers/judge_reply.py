"""What a judge is asked, and how its replies are read: strictly, never guessed."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

PROMPT_VERSION: Final = 1  # goes up with the words below, and with the reading
GRADES: Final = ("adherence", "quality", "preservation")
LOWEST, HIGHEST = 1, 10
PROMPT: Final = """The first image is the original, the second image is the same after an edit. The edit was \
asked for as {instruction}. Grade the edit with whole numbers from 1 (worst) to 10 (best):
adherence: does the second image show what was asked for, no less and no more?
quality: is the second image free of artefacts, blur and broken shapes?
preservation: is everything that the edit does not concern the same in both images?
Reply with one JSON object and nothing else: {{"adherence": 1-10, "quality": 1-10, "preservation": 1-10, "reason": \
"one sentence"}}"""
_FENCE: Final = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
_LONGEST_REASON: Final = 1000  # characters that are kept


class BadReply(ValueError):
    """A reply that is not what was asked for."""


@dataclass(frozen=True)
class Question:
    """What a judge sees: images (RGB) in an order that the words speak of, and the words."""

    images: tuple[Image.Image, ...]
    text: str

    @classmethod
    def about(cls, images: tuple[Image.Image, Image.Image], instruction: str, side: int) -> "Question":
        """How good an edit is: a and a'."""
        return cls.showing(images, PROMPT.format(instruction=json.dumps(instruction, ensure_ascii=False)), side)

    @classmethod
    def showing(cls, images: tuple[Image.Image, ...], text: str, side: int) -> "Question":
        """Images are scaled down where their longer side is above `side` px, in their proportions."""
        return cls(tuple(_within(image, side) for image in images), text)


def _within(image: Image.Image, side: int) -> Image.Image:
    longer = max(image.size)
    if longer <= side:
        return image
    width, height = (max(1, round(length * side / longer)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Verdict:
    """Grades from 1 to 10, and one sentence."""

    adherence: int
    quality: int
    preservation: int
    reason: str

    @property
    def overall(self) -> float:
        """The geometric mean of the grades: one bad grade is not made good by the others."""
        return math.cbrt(self.adherence * self.quality * self.preservation)


def parse_verdict(reply: str) -> Verdict:
    """The verdict of a reply: one JSON object with exactly the keys asked for, bare or in one code fence around it all.

    Raises:
        BadReply: anything else; the sentence says what.
    """
    found = parse_object(reply, {*GRADES, "reason"})
    adherence, quality, preservation = (whole_number(found, name, LOWEST, HIGHEST) for name in GRADES)
    return Verdict(adherence, quality, preservation, sentence_of(found, "reason"))


def parse_object(reply: str, wanted: set[str]) -> dict[str, Any]:
    """One JSON object with exactly the keys `wanted`, bare or in one code fence around it all.

    Raises:
        BadReply: anything else; the sentence says what.
    """
    text = reply.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"the reply is not JSON ({str(error)[:80]}): {_short(text)}") from error
    if not isinstance(found, dict):
        raise BadReply(f"the reply is {_short(text)}, not an object")
    if set(found) != wanted:
        odd = sorted(set(found) ^ wanted)[0]
        raise BadReply(
            f"the reply has the keys {_short(sorted(found))}; '{_short(odd)}' is missing or was not asked for"
        )
    return found


def whole_number(found: dict[str, Any], name: str, least: int, most: int) -> int:
    """The value of a key, never rounded and never read out of a text. Raises BadReply."""
    value = found[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadReply(f"{name} is {_short(value)}, not a whole number from {least} to {most}")
    return value


def sentence_of(found: dict[str, Any], name: str) -> str:
    """The text of a key on one line, cut at 1000 characters. Raises BadReply."""
    if not isinstance(found[name], str):
        raise BadReply(f"{name} is {_short(found[name])}, not a text")
    return " ".join(found[name].split())[:_LONGEST_REASON]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)
    text = " ".join(text.split())
    plain = ascii(text)[1:-1] or '""'
    return plain if len(plain) <= 80 else f"{plain[:77]}..."
