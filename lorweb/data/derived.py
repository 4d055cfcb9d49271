"""Further training tasks from pairs that are there: an edit backwards, and from one edit of an image to another.

No image is made or copied: a derived pair names a side of a pair as its before image, and a side as its after image.
They are for training only; evaluation shows edits that an editor made.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from lorweb.data.splits import PairFacts
from lorweb.records import stable_id

Side = Literal["before", "after"]
TRIES: Final = 200  # draws of a couple for each that is wanted


@dataclass(frozen=True)
class Derived:
    """One pair made of others' images; fields as in `records.TRAIN_PAIR` and `records.DERIVED`."""

    pair: str
    task: str
    subject: str
    instruction: str
    before_pair: str
    before_side: Side
    after_pair: str
    after_side: Side


def inverse_pairs(train: Iterable[PairFacts], patterns: Sequence[str]) -> list[Derived]:
    """a' -> a, for training pairs whose task matches a pattern. Task `T` becomes `undo:T`.

    Raises:
        ValueError: a pattern that matches no task of the training pairs.
    """
    train = list(train)
    for pattern in patterns:
        if not any(fnmatchcase(pair.task, pattern) for pair in train):
            raise ValueError(f"assemble.inverse: no trained task matches '{pattern}'; correct or drop it")
    return [
        Derived(
            stable_id("inverse", pair.id),
            f"undo:{pair.task}",
            pair.subject,
            f"undo this: {pair.instruction}",
            *(pair.id, "after", pair.id, "before"),
        )
        for pair in train
        if any(fnmatchcase(pair.task, pattern) for pattern in patterns)
    ]


def composed_pairs(train: Iterable[PairFacts], count: int, seed: int) -> list[Derived]:
    """From T(a) to U(a), for `count` ordered couples (T, U) of trained tasks that share sources of several subjects.

    It is "undo T, then do U", which neither task teaches alone. Couples are drawn one after another by the seed, so
    that a larger count adds to a smaller one's.

    Raises:
        ValueError: too few couples share sources of two subjects.
    """
    by_task: dict[str, dict[str, PairFacts]] = defaultdict(dict)
    for pair in sorted(train, key=lambda p: p.id):
        by_task[pair.task].setdefault(pair.before, pair)  # one draw of an image is enough
    names = sorted(by_task)
    found: dict[tuple[str, str], list[Derived]] = {}
    for draw in range(TRIES * count):
        if len(found) == count:
            break
        first, second = (names[int(stable_id("composed", seed, draw, side), 16) % len(names)] for side in (0, 1))
        couples = [(own, by_task[second][image]) for image, own in by_task[first].items() if image in by_task[second]]
        if first != second and len({one.subject for one, _ in couples}) >= 2:
            found.setdefault((first, second), [_composed(one, other) for one, other in couples])
    if len(found) < count:
        raise ValueError(
            f"assemble.composed is {count}, but only {len(found)} couples of the {len(names)} trained tasks were found "
            "that share sources of two subjects; lower it, or raise generate.sources_per_task"
        )
    return [pair for own in found.values() for pair in own]


def _composed(one: PairFacts, other: PairFacts) -> Derived:
    return Derived(
        stable_id("composed", one.id, other.id),
        f"{one.task}>{other.task}",
        one.subject,
        f"undo this: {one.instruction}; then {other.instruction}",
        *(one.id, "after", other.id, "after"),
    )
