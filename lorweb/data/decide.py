"""Which pairs stay: scores that a task gives its pairs, then checks, best of several draws, duplicates, in that order.

Everything here works on numbers that were measured before, so that a changed threshold measures nothing again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorweb.config import Filter
from lorweb.data.best import Draw, not_best
from lorweb.data.checks import first_failure
from lorweb.data.dedup import HashedPair, Vectors, duplicates, semantic_duplicates
from lorweb.data.directions import Changes, agreement, standing
from lorweb.data.rejects import Rejected
from lorweb.data.subjects import Place, own_subject

Scores = dict[str, dict[str, float]]  # pair id -> {score: number}
Change = Callable[[], Iterable[tuple[str, NDArray[np.float32]]]]


@dataclass(frozen=True)
class PairPlace:
    """What deciding needs to know of a pair besides its scores."""

    task: str
    edit_type: str
    source: str  # id of its source image
    subject: str


@dataclass(frozen=True)
class Evidence:
    """What was measured of all pairs.

    Attributes:
        scores: pair id -> its own scores.
        changes: encoder -> (pair id, feature(a') - feature(a)) of every pair, again at each call. The first encoder
            gives `direction`, `magnitude` and `edit`, the others `direction.<encoder>` and so on.
        spatial: features of a and a' for `subject`, of the kinds that lorweb.data.subjects weighs; may be empty.
        content: features of a and a' that find pairs of the same content, or None.
        hashes: pair id -> perceptual hashes of a and a'.
    """

    scores: Scores
    changes: Mapping[str, Change]
    spatial: Mapping[str, Vectors]
    content: Vectors | None
    hashes: Mapping[str, tuple[int, int]]


def task_scores(cfg: Filter, evidence: Evidence, places: Mapping[str, PairPlace]) -> Scores:
    """The scores of each pair with those added that only its task gives.

    `direction`, `magnitude` and `edit` (lorweb.data.directions); `subject` (lorweb.data.subjects), measured against the
    pairs that hold every check on the scores before it; and `<score>.standing` for each name in `cfg.relative`.

    Raises:
        ValueError: a name in `cfg.relative` that nobody measures.
    """
    found: Scores = {name: dict(own) for name, own in evidence.scores.items()}
    for number, (encoder, change) in enumerate(evidence.changes.items()):
        suffix = "" if number == 0 else f".{encoder}"
        for name, agrees in agreement(_with_tasks(change, places)).items():
            found[name][f"direction{suffix}"] = agrees.direction
            found[name][f"magnitude{suffix}"] = agrees.magnitude
            found[name][f"edit{suffix}"] = agrees.edit
    if evidence.spatial:
        belongs = {name: Place(places[name].task, places[name].subject) for name in found}
        for name, margin in own_subject(evidence.spatial, belongs, _sound(cfg, found, places)).items():
            found[name]["subject"] = margin
    task = {name: places[name].task for name in found}
    for score in cfg.relative:
        if found and score not in next(iter(found.values())):
            known = ", ".join(sorted(next(iter(found.values()))))
            raise ValueError(f"filter.relative names the score '{score}'; there are only {known}")
        for name, z in standing({name: own[score] for name, own in found.items()}, task).items():
            found[name][f"{score}.standing"] = z
    return found


def _sound(cfg: Filter, scores: Scores, places: Mapping[str, PairPlace]) -> set[str]:
    """Pairs that hold all checks on the scores that there are so far."""
    return {
        name
        for name, own in scores.items()
        if first_failure(places[name].edit_type, own, [c for c in cfg.checks if c.score in own]) is None
    }


def _with_tasks(change: Change, places: Mapping[str, PairPlace]) -> Changes:
    return lambda: ((name, places[name].task, vector_D) for name, vector_D in change())


def decide(cfg: Filter, evidence: Evidence, places: Mapping[str, PairPlace], scores: Scores) -> dict[str, Rejected]:
    """Why each pair that leaves does: {pair id: why}. `scores` is what `task_scores` gave.

    The first failing check; or better draws of the same edit; or a pair of its task that looks the same, or has the
    same content. What left earlier no longer counts: a duplicate of a bad pair stays.

    Raises:
        ValueError: a check or `best` names a score that nobody measures.
    """
    gone: dict[str, Rejected] = {}
    for name, own in scores.items():
        failed = first_failure(places[name].edit_type, own, cfg.checks)
        if failed is not None:
            gone[name] = failed
    if cfg.best is not None:
        gone |= _not_best(cfg, places, {name: own for name, own in scores.items() if name not in gone})
    stay = [name for name in scores if name not in gone]
    hashed = [HashedPair(name, places[name].task, *evidence.hashes[name]) for name in stay]
    for name, kept in duplicates(hashed, cfg.duplicates.distance).items():
        why = f"looks like pair {kept} of the same task"
        gone[name] = Rejected("duplicate", why, None, cfg.duplicates.distance)
    if cfg.duplicates.cosine is not None and evidence.content is not None:
        group = {name: places[name].task for name in stay if name not in gone}
        for name, kept in semantic_duplicates(evidence.content, group, cfg.duplicates.cosine).items():
            why = f"has the content of pair {kept} of the same task"
            gone[name] = Rejected("same_content", why, None, cfg.duplicates.cosine)
    return gone


def _not_best(cfg: Filter, places: Mapping[str, PairPlace], scores: Scores) -> dict[str, Rejected]:
    assert cfg.best is not None
    name = cfg.best.score
    if scores and name not in next(iter(scores.values())):
        known = ", ".join(sorted(next(iter(scores.values()))))
        raise ValueError(f"filter.best names the score '{name}'; there are only {known}")
    draws = [Draw(pair, places[pair].task, places[pair].source) for pair in scores]
    return not_best(draws, {pair: own[name] for pair, own in scores.items()}, cfg.best.keep, name)
