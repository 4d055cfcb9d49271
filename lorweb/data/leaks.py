"""The leak check: written against the finished rows, knowing nothing of how the splits were made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorweb.data.splits import PairFacts


def find_leaks(
    pairs: Mapping[str, PairFacts],
    trained: Sequence[str],
    analogies: Iterable[Mapping[str, Any]],
    holdout: Mapping[str, str],
) -> list[str]:
    """Every leak as a sentence with ids, cell by cell; an empty list is a clean set.

    Args:
        pairs: all pairs by id.
        trained: ids of the pairs that training may draw.
        analogies: rows of `records.ANALOGY`.
        holdout: task -> none, value, composition or edit.
    """
    train = [pairs[i] for i in trained]
    subjects = {p.subject for p in train}
    images = {image: p.id for p in train for image in (p.before, p.after)}
    tasks = {p.task for p in train}
    leaks = [
        f"held-out task {p.task} ({holdout[p.task]}) trains on pair {p.id}" for p in train if holdout[p.task] != "none"
    ]
    sides: dict[str, dict[str, str]] = {"val": {}, "test": {}}
    for row in analogies:
        cell = f"{row['split']} cell ({row['holdout']}, subject {'seen' if row['subject_seen'] else 'new'})"
        where = f"{cell}: analogy {row['id']}"
        exemplar, query = pairs[row["exemplar"]], pairs[row["query"]]
        if exemplar.subject == query.subject:
            leaks.append(f"{where} has one subject, {query.subject}, on both sides")
        if {exemplar.task, query.task} != {row["task"]} or row["holdout"] != holdout[row["task"]]:
            leaks.append(f"{where} mixes tasks or misstates what was held out of {row['task']}")
        if row["holdout"] != "none" and row["task"] in tasks:
            leaks.append(f"{where} tests task {row['task']}, which is trained")
        for pair in (exemplar, query):
            leaks += [] if row["subject_seen"] else _new_subject_leaks(where, pair, subjects, images)
            if not row["subject_seen"]:
                sides[row["split"]][pair.subject] = row["id"]
    both = sorted(sides["val"].keys() & sides["test"].keys())
    leaks += [f"subject {s} is in val ({sides['val'][s]}) and in test ({sides['test'][s]})" for s in both]
    return leaks


def _new_subject_leaks(where: str, pair: PairFacts, subjects: set[str], images: Mapping[str, str]) -> list[str]:
    """What a pair of a supposedly new subject shares with training."""
    leaks = []
    if pair.subject in subjects:
        leaks.append(f"{where} uses subject {pair.subject} (pair {pair.id}), which is trained")
    for image in (pair.before, pair.after):
        if image in images:
            leaks.append(f"{where} uses an image of pair {pair.id} that training pair {images[image]} has too")
    return leaks
