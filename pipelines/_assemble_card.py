"""The dataset card: what the analogies are made of, in counts, licences and examples, as Markdown that hubs read."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

EXAMPLES: Final = 12  # tasks in the table
SPDX_KNOWN: Final = {"CC0-1.0": "cc0-1.0", "MIT": "mit", "CC-BY-4.0": "cc-by-4.0", "Apache-2.0": "apache-2.0"}


@dataclass(frozen=True)
class CardRow:
    """One pair, as the card counts it."""

    task: str
    edit_type: str
    instruction: str
    category: str
    licence: str
    editor: str


def render_card(pairs: Sequence[CardRow], split: Mapping[str, str], numbers: Mapping[str, Any]) -> str:
    """The card. `split` is subject -> train, val or test; `numbers` are shown as they are, in their order."""
    licences = Counter(pair.licence for pair in pairs)
    one = SPDX_KNOWN.get(next(iter(licences)), "other") if len(licences) == 1 else "other"
    front = {
        "license": one,
        "task_categories": ["image-to-image"],
        "tags": ["visual-analogies", "image-editing"],
        "size_categories": [size_category(len(pairs))],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=True)}---\n",
        "# Visual analogies a : a' :: b : b'\n",
        "Pairs (a, a') of one edit each, and analogies made of two pairs of one task with different subjects. Made by "
        "the pipeline of lorweb; `_manifest.json` has the parameters and the hash of every file.\n",
        "## Numbers\n",
        _table(["what", "count"], [[name, value] for name, value in numbers.items()]),
        _table(["subjects", "count"], sorted(Counter(split.values()).items())),
        "## Edits\n",
        _table(["edit type", "tasks", "pairs"], _by_type(pairs)),
        f"Some of the {len({pair.task for pair in pairs})} tasks:\n",
        _table(["task", "instruction", "pairs"], _examples(pairs)),
        "## Sources and editors\n",
        _table(["source", "pairs"], Counter(pair.category for pair in pairs).most_common()),
        _table(["editor", "pairs"], Counter(pair.editor for pair in pairs).most_common()),
        "## Licences\n",
        "Each pair carries the licence of its source; what an editor's own licence asks comes on top.\n",
        _table(["licence", "pairs"], licences.most_common()),
    ]
    return "\n".join(parts)


def size_category(count: int) -> str:
    """The hubs' name of a size."""
    limits = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for limit, name in limits if count < limit), "n>1M")


def _by_type(pairs: Sequence[CardRow]) -> list[list[Any]]:
    tasks: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        tasks[pair.edit_type].add(pair.task)
    count = Counter(pair.edit_type for pair in pairs)
    return [[kind, len(tasks[kind]), count[kind]] for kind in sorted(count)]


def _examples(pairs: Sequence[CardRow]) -> list[list[Any]]:
    """Tasks spread over all, one instruction each."""
    count = Counter(pair.task for pair in pairs)
    words = {pair.task: pair.instruction for pair in sorted(pairs, key=lambda p: (p.task, p.instruction), reverse=True)}
    names = sorted(count)
    chosen = names[:: max(1, -(-len(names) // EXAMPLES))]
    return [[name, words[name], count[name]] for name in chosen]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
