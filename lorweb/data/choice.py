"""Which sources a task is applied to: spread over kinds of image, then over subjects, always the same ones."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice, zip_longest
from typing import Any

from lorweb.data.catalogue import Task
from lorweb.records import stable_id


def choose_sources(task: Task, sources: Iterable[Mapping[str, Any]], number: int, seed: int) -> list[Mapping[str, Any]]:
    """Up to `number` of the sources (`id`, `subject`, `category`) that fit a task.

    Kinds of image (photo, avatar) take turns, and within a kind subjects do, so that few photos are not drowned by many
    drawings and no subject comes again before every other has come. A larger `number` adds to a smaller one's choice.
    """
    kinds: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for source in sources:
        if task.fits_category(source["category"]):
            kinds[source["category"].partition(":")[0]][source["subject"]].append(source)
    order = [_turns(subjects, task.id, seed) for _, subjects in sorted(kinds.items())]
    return list(islice(_interleave(order), number))


def _turns(subjects: Mapping[str, list[Mapping[str, Any]]], task: str, seed: int) -> Iterator[Mapping[str, Any]]:
    """One source of every subject, then a second of every subject that has one, and so on."""
    ranked = sorted(subjects, key=lambda name: stable_id("subject", seed, task, name))
    own = [sorted(subjects[name], key=lambda row: stable_id("source", seed, task, row["id"])) for name in ranked]
    return _interleave(own)


def _interleave(lists: Iterable[Iterable[Mapping[str, Any]]]) -> Iterator[Mapping[str, Any]]:
    return (row for row in chain.from_iterable(zip_longest(*lists)) if row is not None)
