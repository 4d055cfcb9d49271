"""What a judge of answers is asked, after the protocol of the paper, and how its replies are read: strictly."""

from dataclasses import dataclass
from typing import Final

from lorweb.data.scorers.judge_reply import HIGHEST, LOWEST, parse_object, sentence_of, whole_number

PROMPT_VERSION: Final = 1  # goes up with the words below, and with the reading
_ROLES: Final = """An edit is shown by example: image 1 is an original, image 2 is the same after the edit. Image 3 is \
another original, to which the same edit was to be applied. """
GRADE: Final = (
    _ROLES
    + """Image 4 is the result of that.
First describe what changed from image 1 to image 2. Then say what is wrong with image 4. Then grade image 4 with \
whole numbers from 1 (worst) to 10 (best):
accuracy: is it the same edit, with nothing of it missing and nothing added, in the right place, style and strength?
preservation: is image 3 kept in all that the edit does not concern: identity, objects, layout?
Reply with one JSON object and nothing else: {"explanation": "a few sentences", "accuracy": 1-10, \
"preservation": 1-10}"""
)
COMPARE: Final = (
    _ROLES
    + """Images 4 and 5 are two results of that.
First describe what changed from image 1 to image 2. Then say what is wrong with image 4 and with image 5. Then decide \
which of them is better: it shows the same edit (nothing missing, nothing added, right place, style and strength) and \
keeps image 3 in all that the edit does not concern. Answer 1 if image 4 is better, 2 if image 5 is better.
Reply with one JSON object and nothing else: {"explanation": "a few sentences", "better": 1 or 2}"""
)


@dataclass(frozen=True)
class Grades:
    """From 1 to 10, and why."""

    accuracy: int
    preservation: int
    explanation: str


@dataclass(frozen=True)
class Preference:
    """1 for the result that was shown first, 2 for the other, and why."""

    better: int
    explanation: str


def parse_grades(reply: str) -> Grades:
    """The grades of a reply. Raises BadReply: anything but the object asked for."""
    found = parse_object(reply, {"explanation", "accuracy", "preservation"})
    accuracy, preservation = (whole_number(found, name, LOWEST, HIGHEST) for name in ("accuracy", "preservation"))
    return Grades(accuracy, preservation, sentence_of(found, "explanation"))


def parse_preference(reply: str) -> Preference:
    """The preference of a reply. Raises BadReply: anything but the object asked for; there is no third answer."""
    found = parse_object(reply, {"explanation", "better"})
    return Preference(whole_number(found, "better", 1, 2), sentence_of(found, "explanation"))
