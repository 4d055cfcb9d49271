"""What a scorer is: pairs of images in, numbers, features and hashes out.

Legend: D features.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorweb.data.rejects import Rejected

Array = NDArray[np.float32]
SIDES: Final = ("before", "after")
LARGEST: Final = 60_000  # features are stored with 16 bits
_KEY: Final = re.compile(r"\w[\w.]*")
_HASH: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class PairImages:
    """A pair as scorers see it: `before` and `after` are RGB; `caption` is that of the source, "" where it has none."""

    before: Image.Image
    after: Image.Image
    instruction: str
    caption: str
    edit_type: str


@dataclass(frozen=True)
class Scored:
    """What a scorer found of one pair.

    Attributes:
        scores: key -> a finite number.
        vectors: `change.<encoder>` = feature(a') - feature(a); `before.<encoder>`, `after.<encoder>` = features of a
            and a' of unit length, by which pairs of one content are found. [D] each.
        hashes: "before" and "after" -> 64-bit perceptual hashes as 16 hex digits, or nothing.
        notes: what a person may want to read, as a judge's reason.
        lacks: why some keys are missing, None where all are there. A check on such a key refuses the pair with it.
    """

    scores: Mapping[str, float]
    vectors: Mapping[str, Array] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    lacks: Rejected | None = None


class Scorer(Protocol):
    """Measures pairs. Constructing it loads what it needs; it then lives as long as its worker.

    Attributes:
        name: what journals and messages call it.
        revision: changes whenever the same pair would get other numbers: weights, preprocessing, parameters.
        keys: the scores it gives.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def keys(self) -> Sequence[str]: ...

    def __call__(self, pairs: Sequence[PairImages]) -> Sequence[Scored | Rejected]:
        """One answer for each pair, in order. An answer depends on its pair alone."""


@dataclass(frozen=True)
class ScorerFacts:
    """What is known of a scorer before it is loaded.

    Attributes:
        encoders: names of the features whose changes it gives (`change.<encoder>`).
        places: names of the features that it gives of both images (`before.<encoder>`, `after.<encoder>`).
        hashes: whether it gives perceptual hashes.
        reads: which of "instruction", "caption", "edit_type" its numbers depend on, besides the pixels.
    """

    name: str
    revision: str
    keys: tuple[str, ...]
    encoders: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    hashes: bool = False
    reads: tuple[str, ...] = ()

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of all vectors, in the order in which they are stored."""
        changes = [f"change.{name}" for name in self.encoders]
        return (*changes, *(f"{side}.{name}" for name in self.places for side in SIDES))


class Known:
    """A scorer whose name, revision and keys were found from its parameters."""

    def __init__(self, facts: ScorerFacts) -> None:
        self.facts = facts
        self.name, self.revision, self.keys = facts.name, facts.revision, facts.keys


def check_facts(facts: Sequence[ScorerFacts], reserved: Iterable[str]) -> None:
    """Refuse scorers that cannot work side by side; `reserved` are scores that others than scorers give.

    Raises:
        ValueError: two scorers of one name; a score or a feature that two give; a score with a reserved or odd name.
    """
    owner = dict.fromkeys(reserved, "the filter itself")
    for own in facts:
        for kind, names in (("scorer", [own.name]), ("score", own.keys), ("feature", own.vectors)):
            for name in names:
                if not _KEY.fullmatch(name):
                    raise ValueError(f"scorer '{own.name}' gives a {kind} '{name}'; use letters, digits, '_' and '.'")
                key = name if kind == "score" else f"{kind} {name}"
                if key in owner:
                    other = owner[key]
                    raise ValueError(
                        f"the {kind} '{name}' is given twice in filter.scorers, by '{other}' and by '{own.name}'; "
                        "rename one of them, or drop it"
                    )
                owner[key] = own.name


def checked(answers: Sequence[object], pairs: Sequence[PairImages], facts: ScorerFacts) -> list[Scored | Rejected]:
    """Answers that keep the promise of `Scorer`; one that does not becomes `Rejected` (check `bad_score`).

    Raises:
        ValueError: the number of answers is not that of the pairs, so that nobody knows whose they are.
    """
    if len(answers) != len(pairs):
        raise ValueError(
            f"scorer '{facts.name}' gave {len(answers)} answers to {len(pairs)} pairs; it must give one for each"
        )
    return [_checked(answer, facts) for answer in answers]


def _checked(answer: object, facts: ScorerFacts) -> Scored | Rejected:
    if isinstance(answer, Rejected):
        return answer
    fault = f"gave a {type(answer).__name__}, not a Scored" if not isinstance(answer, Scored) else _fault(answer, facts)
    if fault is None:
        assert isinstance(answer, Scored)
        return answer
    return Rejected("bad_score", f"scorer '{facts.name}' {fault}")


def _fault(found: Scored, facts: ScorerFacts) -> str | None:
    missing = [name for name in facts.keys if name not in found.scores]
    if missing and found.lacks is None:
        return f"gave no '{missing[0]}', and no reason for it"
    if sorted(found.vectors) != sorted(facts.vectors):
        return f"gave the features {sorted(found.vectors)}, not {sorted(facts.vectors)}"
    if facts.hashes and not all(_HASH.fullmatch(str(found.hashes.get(side))) for side in SIDES):
        return f"gave the hashes {dict(found.hashes)}; 'before' and 'after' must be 16 hex digits each"
    faults = [
        *(_score_fault(name, value, facts) for name, value in found.scores.items()),
        *(_vector_fault(name, vector_D) for name, vector_D in found.vectors.items()),
    ]
    return next((fault for fault in faults if fault is not None), None)


def _score_fault(name: str, value: object, facts: ScorerFacts) -> str | None:
    if name not in facts.keys:
        return f"gave the score '{name}', which is none of its keys: {', '.join(facts.keys)}"
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not math.isfinite(value):
        return f"gave {value!r} for the score '{name}', which must be a finite number"
    return None


def _vector_fault(name: str, vector_D: object) -> str | None:
    row = np.asarray(vector_D)
    if row.ndim != 1 or not row.size or row.dtype.kind != "f" or not (np.abs(row) < LARGEST).all():
        return f"gave the feature '{name}' as {row.dtype} {list(row.shape)}; it must be a row of floats below {LARGEST}"
    return None
