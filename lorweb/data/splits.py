"""Who trains and who tests: subjects are split, tasks are held out, analogies are drawn, leaks are looked for."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lorweb.records import stable_id


@dataclass(frozen=True)
class PairFacts:
    """What splitting needs to know of a pair; no pixels."""

    id: str
    task: str
    edit_type: str
    subject: str
    category: str
    instruction: str
    before: str  # sha256 of the image bytes
    after: str


@dataclass(frozen=True)
class Shares:
    """Shares of subjects that are never trained, in [0, 1); the rest trains."""

    test: float
    val: float


@dataclass(frozen=True)
class Counts:
    """Analogies drawn per task and split."""

    test: int
    val: int


def subject_groups(pairs: Iterable[PairFacts]) -> dict[str, str]:
    """Subjects that share an image, byte for byte, belong together: {subject: smallest subject of its group}."""
    parent: dict[str, str] = {}

    def root(subject: str) -> str:
        parent.setdefault(subject, subject)
        while parent[subject] != subject:
            parent[subject] = parent[parent[subject]]
            subject = parent[subject]
        return subject

    first: dict[str, str] = {}
    for pair in pairs:
        for image in (pair.before, pair.after):
            one, other = sorted((root(pair.subject), root(first.setdefault(image, pair.subject))))
            parent[other] = one
    return {subject: root(subject) for subject in sorted(parent)}


def split_subjects(
    pairs: Sequence[PairFacts], shares: Shares, seed: int, always_train: Sequence[str] = ()
) -> dict[str, str]:
    """{subject: train | val | test}, by category in the given shares, the same for the same seed.

    The unit is a group of subjects that share an image, so no image can sit on both sides. Subjects that match one of
    the `always_train` patterns (those the base has seen) take their group to training.
    """
    groups = subject_groups(pairs)
    category = {pair.subject: pair.category for pair in pairs}
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(set(groups.values())):
        strata[category[group]].append(group)
    known = {group for subject, group in groups.items() if any(fnmatchcase(subject, p) for p in always_train)}
    split: dict[str, str] = dict.fromkeys(known, "train")
    for members in strata.values():
        ranked = sorted((m for m in members if m not in known), key=lambda group: stable_id("split", seed, group))
        test, val = (min(_share(len(members), share), len(ranked) // 2) for share in (shares.test, shares.val))
        for place, group in enumerate(ranked):
            split[group] = "test" if place < test else "val" if place < test + val else "train"
    return {subject: split[group] for subject, group in groups.items()}


def _share(count: int, share: float) -> int:
    """Rounded share of a category; at least one where a share is asked for and three or more leave room."""
    return max(round(count * share), int(share > 0 and count >= 3))


@dataclass(frozen=True)
class Caps:
    """The most training pairs of one task, and of one source image; always the same ones stay."""

    task: int
    source: int


def training_pairs(
    pairs: Iterable[PairFacts], split: Mapping[str, str], holdout: Mapping[str, str], caps: Caps
) -> list[PairFacts]:
    """Pairs that training may draw: trained tasks, training subjects, within the caps."""
    by_task: dict[str, list[PairFacts]] = defaultdict(list)
    of_source: Counter[str] = Counter()
    allowed = [p for p in pairs if holdout[p.task] == "none" and split[p.subject] == "train"]
    for pair in _ranked(allowed, "train"):
        if len(by_task[pair.task]) < caps.task and of_source[pair.before] < caps.source:
            by_task[pair.task].append(pair)
            of_source[pair.before] += 1
    return sorted((pair for own in by_task.values() for pair in own), key=lambda pair: pair.id)


def hard_positives(pairs: Iterable[PairFacts]) -> dict[str, int]:
    """How many (exemplar, query) of one task and two subjects there are, and how many of them cross categories.

    Counted from sums, never listed: {"analogies": all, "across_categories": those of two categories}.
    """
    tasks: dict[str, list[PairFacts]] = defaultdict(list)
    for pair in pairs:
        tasks[pair.task].append(pair)
    both = across = 0
    for own in tasks.values():
        subjects, categories = Counter(p.subject for p in own), Counter(p.category for p in own)
        both += len(own) ** 2 - sum(n * n for n in subjects.values())
        across += len(own) ** 2 - sum(n * n for n in categories.values())
    return {"analogies": both, "across_categories": across}


def _ranked(pairs: Iterable[PairFacts], purpose: str) -> list[PairFacts]:
    return sorted(pairs, key=lambda pair: stable_id(purpose, pair.id))


def evaluation_analogies(
    pairs: Iterable[PairFacts], split: Mapping[str, str], holdout: Mapping[str, str], counts: Counts
) -> list[dict[str, Any]]:
    """Rows of `records.ANALOGY`: two pairs of one task with different subjects, both of one split.

    Every task gets `counts.val` analogies of val subjects and `counts.test` of test subjects, where it has two.
    Held-out tasks get one more for test between training subjects (`subject_seen`: only the edit is new).
    """
    cells: dict[tuple[str, str], list[PairFacts]] = defaultdict(list)
    for pair in pairs:
        cells[pair.task, split[pair.subject]].append(pair)
    analogies: list[dict[str, Any]] = []
    for (task, side), own in sorted(cells.items()):
        seen = side == "train"
        if seen and holdout[task] == "none":
            continue
        part = "test" if seen else side
        number = 1 if seen else counts.test if side == "test" else counts.val
        for exemplar, query in _draw(_ranked(own, side), number):
            analogies.append(
                {
                    "id": stable_id(part, task, exemplar.id, query.id),
                    "task": task,
                    "edit_type": query.edit_type,
                    "exemplar": exemplar.id,
                    "query": query.id,
                    "instruction": query.instruction,
                    "split": part,
                    "holdout": holdout[task],
                    "subject_seen": seen,
                }
            )
    return sorted(analogies, key=lambda row: str(row["id"]))


def _draw(ranked: Sequence[PairFacts], number: int) -> list[tuple[PairFacts, PairFacts]]:
    """Up to `number` (exemplar, query) of different subjects: each query once before any comes again."""
    drawn: list[tuple[PairFacts, PairFacts]] = []
    count = len(ranked)
    for turn in range(1, count):  # the exemplar stands `turn` places behind its query
        for place, query in enumerate(ranked):
            exemplar = ranked[(place + turn) % count]
            if len(drawn) < number and exemplar.subject != query.subject:
                drawn.append((exemplar, query))
    return drawn
