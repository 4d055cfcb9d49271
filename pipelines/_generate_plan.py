"""Generate, second part: which editor makes which pair of which source, with which seed and words."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lorweb.config import Generate
from lorweb.data.catalogue import Task
from lorweb.data.choice import choose_sources
from lorweb.data.editors.base import EditorFacts
from lorweb.data.editors.build import describe
from lorweb.data.editors.emoji import EmojiEditor, emoji_tasks
from lorweb.data.editors.entries import EditorConfig, EmojiConfig, GivenConfig
from lorweb.data.editors.given import given_tasks, read_given
from lorweb.data.rejects import Rejected
from lorweb.records import stable_id
from pipelines._rows import Item
from pipelines._stage import seed_of

Source = Mapping[str, Any]
SOURCE_FACTS = ("id", "sha256", "subject", "category", "caption", "licence", "origin")


@dataclass(frozen=True)
class Plan:
    """The work of one entry of `generate.editors`."""

    entry: EditorConfig
    facts: EditorFacts
    tasks: Mapping[str, Task]  # chosen by the entry's patterns
    items: Callable[[], Iterator[Item]]  # made when they are asked for: a list of millions would fill the driver
    counts: Mapping[str, int]  # task -> items
    refused: list[tuple[str, Rejected]]  # given pairs without a source

    @property
    def used(self) -> list[Task]:
        """The tasks that have an item."""
        return [task for name, task in self.tasks.items() if self.counts.get(name)]

    @property
    def asked(self) -> int:
        """Number of items."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Wanted:
    """How many pairs, and the run's seed."""

    sources_per_task: int
    seeds_per_pair: int
    seed: int


def plan_editors(
    cfg: Generate, drafted: Mapping[str, Task], sources: Sequence[Source], seed: int, given: Path
) -> list[Plan]:
    """The work of every entry; `given` is data/sources.

    Raises:
        FileNotFoundError, ValueError: an editor lacks something; a pattern matches no task; two entries of one kind do
            the same task, so that their pairs could not be told apart.
    """
    wanted = Wanted(cfg.sources_per_task, cfg.seeds_per_pair, seed)
    plans = []
    for number, entry in enumerate(cfg.editors):
        where = f"generate.editors.{number} ({entry.editor})"
        match entry:
            case GivenConfig():
                plans.append(_given(entry, where, sources, given))
            case EmojiConfig():
                plans.append(_emoji(entry, where, sources, wanted))
            case _:
                tasks = chosen_tasks(drafted, entry.tasks, where)
                facts = describe(entry)
                plans.append(_edited(entry, facts, tasks, sources, wanted))
    twice = [
        key for key, times in Counter((p.facts.name, task) for p in plans for task in p.tasks).items() if times > 1
    ]
    if twice:
        name, task = twice[0]
        raise ValueError(f"two entries of generate.editors are '{name}' and do task '{task}'; give each its own tasks")
    return plans


def chosen_tasks(tasks: Mapping[str, Task], patterns: Sequence[str], where: str) -> dict[str, Task]:
    """Tasks whose id matches a pattern. Raises ValueError for a pattern that matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in tasks):
            near = difflib.get_close_matches(pattern, list(tasks), n=1, cutoff=0.0)
            hint = f"the nearest is '{near[0]}'" if near else "it has none"
            raise ValueError(f"{where}: no task matches '{pattern}' ({hint}); correct or drop the pattern")
    return {name: task for name, task in tasks.items() if any(fnmatchcase(name, p) for p in patterns)}


def _edited(
    entry: EditorConfig, facts: EditorFacts, tasks: Mapping[str, Task], sources: Sequence[Source], wanted: Wanted
) -> Plan:
    """For each task: sources in a fair choice, turns, and a seed and a wording for each."""
    chosen = {name: choose_sources(task, sources, wanted.sources_per_task, wanted.seed) for name, task in tasks.items()}
    turns = range(wanted.seeds_per_pair)

    def items() -> Iterator[Item]:
        for name, own in chosen.items():
            yield from (_item(tasks[name], facts, source, turn, wanted.seed) for source in own for turn in turns)

    return Plan(entry, facts, tasks, items, {name: len(own) * len(turns) for name, own in chosen.items()}, [])


def _item(task: Task, facts: EditorFacts, source: Source, turn: int, seed: int) -> Item:
    # Pairs of the embedded editor are named without it; a second editor of the same task must draw other seeds.
    named = () if facts.name == "embedded" else (facts.name,)
    own = (source["id"],) if facts.seed_by == "pair" else ()
    drawn = seed_of("edit", seed, *named, task.id, *own, turn)
    wording = seed_of("instruction", task.id, source["id"], turn) % len(task.instructions)
    return {
        "id": stable_id(task.id, source["id"], drawn),
        "task": task.id,
        "recipe": task.recipe,
        "instruction": task.instructions[wording],
        "source_id": source["id"],
        "source_sha256": source["sha256"],
        "seed": drawn,
        **{name: source[name] for name in ("subject", "category", "caption", "licence", "origin")},
        "at": source["at"],
    }


def _emoji(entry: EmojiConfig, where: str, sources: Sequence[Source], wanted: Wanted) -> Plan:
    tasks, editor, facts = chosen_tasks(emoji_tasks(), entry.tasks, where), EmojiEditor(entry), describe(entry)
    items: list[Item] = []  # some thousands: as many as there are emoji
    for task in tasks.values():
        fitting = [source for source in sources if editor.fits(task, dict(source))]
        for source in choose_sources(task, fitting, wanted.sources_per_task, wanted.seed):
            item = _item(task, facts, source, 0, wanted.seed)  # one turn: there is one other drawing
            items.append({**item, "licence": editor.licence(task, item["licence"])})
    return _listed(entry, facts, tasks, items, [])


def _given(entry: GivenConfig, where: str, sources: Sequence[Source], folder: Path) -> Plan:
    """Every given pair of the chosen tasks: they cost nothing, so none is left out."""
    rows, facts = read_given(folder), describe(entry)
    tasks = chosen_tasks(given_tasks(rows), entry.tasks, where)
    by_id = {source["id"]: source for source in sources}
    items: list[Item] = []
    refused: list[tuple[str, Rejected]] = []
    for row in rows:
        if row["task"] not in tasks:
            continue
        if row["source"] not in by_id:
            refused.append((row["source"], Rejected("no_source", "its before image was not collected")))
            continue
        item = _item(tasks[row["task"]], facts, by_id[row["source"]], 0, 0)
        items.append({**item, "instruction": row["instruction"], "after_sha256": row["sha256"]})
    return _listed(entry, facts, tasks, items, refused)


def _listed(
    entry: EditorConfig,
    facts: EditorFacts,
    tasks: Mapping[str, Task],
    items: list[Item],
    refused: list[tuple[str, Rejected]],
) -> Plan:
    return Plan(entry, facts, tasks, lambda: iter(items), Counter(item["task"] for item in items), refused)
