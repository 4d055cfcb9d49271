"""Two pairs of one task -> (a, a', b, b') -> data/analogies: splits by subject and by task, and the leak check."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorweb.config import load_params
from lorweb.data.balance import Balance, Kind, task_weights
from lorweb.data.derived import Derived, composed_pairs, inverse_pairs
from lorweb.data.leaks import find_leaks
from lorweb.data.manifest import Manifest, file_sha256, fingerprint, write_manifest
from lorweb.data.near_evaluation import evaluated_pairs
from lorweb.data.shards import read_index, write_rows
from lorweb.data.splits import (
    Caps,
    Counts,
    PairFacts,
    Shares,
    evaluation_analogies,
    hard_positives,
    split_subjects,
    training_pairs,
)
from lorweb.data.tasks import TASKS, holdouts, read_tasks
from lorweb.records import ANALOGY, DERIVED, PAIR, REJECT, TRAIN_PAIR
from pipelines._assemble_card import CardRow, render_card
from pipelines._assemble_near import PAIRS, near_evaluation
from pipelines._launch import hand_over
from pipelines._stage import StageFailed, publishing, stage, write_text

VERSION: Final = 1
OUT: Final = Path("data/analogies")
SHOWN_LEAKS: Final = 20


def read_facts() -> list[PairFacts]:
    """What splitting needs of every pair."""
    columns = ["id", "task", "edit_type", "subject", "category", "instruction"]
    rows = read_index(PAIRS, PAIR, columns, digests=["before", "after"])
    return [
        PairFacts(**{c: row[c] for c in columns}, before=row["before_sha256"], after=row["after_sha256"])
        for row in rows
    ]


def rare_tasks(pairs: list[PairFacts], least: int) -> dict[str, int]:
    """Tasks with fewer than `least` pairs: {task: pairs}."""
    counts = Counter(pair.task for pair in pairs)
    return {task: number for task, number in sorted(counts.items()) if number < least}


def refuse_leaks(
    pairs: list[PairFacts], train: list[PairFacts], analogies: list[dict[str, Any]], holdout: Mapping[str, str]
) -> None:
    """Raises StageFailed with the ids of whatever is on both sides."""
    leaks = find_leaks({p.id: p for p in pairs}, [p.id for p in train], analogies, holdout)
    if leaks:
        more = f"\n  and {len(leaks) - SHOWN_LEAKS} more" if len(leaks) > SHOWN_LEAKS else ""
        raise StageFailed(f"{len(leaks)} leaks between splits:\n  " + "\n  ".join(leaks[:SHOWN_LEAKS]) + more)


def cells(analogies: list[dict[str, Any]]) -> dict[str, int]:
    """Analogies per evaluation cell."""
    named = (f"{r['split']}/{r['holdout']}/{'seen' if r['subject_seen'] else 'new'}_subject" for r in analogies)
    return dict(sorted(Counter(named).items()))


def main() -> None:
    """Run the stage from its parameters."""
    params = load_params()
    cfg = params.assemble
    with stage("assemble") as metrics:
        everything = read_facts()
        holdout = holdouts(read_tasks(PAIRS), cfg.holdout_tasks, params.seed)
        unknown = sorted({pair.task for pair in everything} - set(holdout))
        if unknown:
            raise StageFailed(
                f"{len(unknown)} tasks of data/pairs, as {unknown[0]}, are not in its {TASKS}; generate again"
            )
        rare = rare_tasks(everything, cfg.min_pairs_per_task)
        pairs = [pair for pair in everything if pair.task not in rare]
        split = split_subjects(pairs, Shares(cfg.test_subjects, cfg.val_subjects), params.seed, cfg.train_subjects)
        analogies = evaluation_analogies(pairs, split, holdout, Counts(cfg.test_per_task, cfg.val_per_task))
        trainable = training_pairs(pairs, split, holdout, Caps(cfg.max_pairs_per_task, cfg.max_pairs_per_source))
        close = near_evaluation([pair.id for pair in trainable], evaluated_pairs(analogies), cfg.near_evaluation)
        train = [pair for pair in trainable if pair.id not in close]
        refuse_leaks(pairs, train, analogies, holdout)
        if not train:
            raise StageFailed(f"no pair is left to train on, of {len(everything)}; see metrics/filter.json for why")
        derived = [*inverse_pairs(train, cfg.inverse), *composed_pairs(train, cfg.composed, params.seed)]
        recipe = {"seed": params.seed, "catalogue_sha256": file_sha256(PAIRS / TASKS), **cfg.model_dump(mode="json")}
        result = Assembled(split, analogies, train_rows(train, derived, cfg.balance), derived, list(close.values()))
        combinations = hard_positives(train)
        listed = Counter(row["split"] for row in analogies)
        numbers = {
            "pairs": len(pairs),
            "training pairs": len(train),
            "training pairs derived from them": len(derived),
            "training analogies that can be drawn": f"{combinations['analogies']:,}",
            "of them across kinds of subject": f"{combinations['across_categories']:,}",
            "validation analogies": listed["val"],
            "test analogies": listed["test"],
        }
        publish(recipe, result, card(pairs, split, numbers))
        metrics.update(
            rows_in=len(everything),
            train_pairs=len(train),
            train_tasks=len({pair.task for pair in train}),
            derived_pairs=len(derived),
            derived_tasks=len({pair.task for pair in derived}),
            train_combinations=combinations,
            rejected=dict(Counter(row["check"] for row in result.rejects)),
            subjects=dict(sorted(Counter(split.values()).items())),
            cells=cells(analogies),
            rare_tasks=rare,
            tasks_without_test=sorted({p.task for p in pairs} - {r["task"] for r in analogies if r["split"] == "test"}),
        )


def train_rows(train: list[PairFacts], derived: list[Derived], balance: Balance) -> list[dict[str, Any]]:
    """Rows of `records.TRAIN_PAIR`, weights included."""
    type_of = {pair.task: pair.edit_type for pair in train}
    kinds = [Kind(p.task, p.edit_type) for p in train]
    kinds += [Kind(p.task, type_of.get(p.task.removeprefix("undo:"), "composed")) for p in derived]
    weights = task_weights(kinds, balance)
    own = [(p.id, p.task, p.subject, p.instruction) for p in train]
    own += [(p.pair, p.task, p.subject, p.instruction) for p in derived]
    names = TRAIN_PAIR.names
    return [dict(zip(names, (*row, weights[row[1]]), strict=True)) for row in own]


@dataclass(frozen=True)
class Assembled:
    """What the stage publishes."""

    split: Mapping[str, str]  # subject -> train, val, test
    analogies: list[dict[str, Any]]
    train: list[dict[str, Any]]
    derived: list[Derived]
    rejects: list[dict[str, Any]]


def card(pairs: list[PairFacts], split: Mapping[str, str], numbers: Mapping[str, Any]) -> str:
    """The dataset card of these pairs."""
    names = {pair.id for pair in pairs}
    columns = ["id", "task", "edit_type", "instruction", "category", "licence", "editor"]
    rows = (row for row in read_index(PAIRS, PAIR, columns) if row["id"] in names)
    return render_card([CardRow(*(row[column] for column in columns[1:])) for row in rows], split, numbers)


def publish(recipe: Mapping[str, Any], found: Assembled, text: str) -> None:
    """Write data/analogies: explicit analogies, the pairs training draws from, who is in which split, and the card."""
    with publishing(OUT, "assemble") as folder:
        write_rows(found.analogies, folder, ANALOGY)
        write_rows(found.train, folder / "train", TRAIN_PAIR)
        write_rows(
            [{name: getattr(p, name) for name in DERIVED.names} for p in found.derived], folder / "derived", DERIVED
        )
        write_rows(found.rejects, folder / "rejects", REJECT)
        write_text(folder / "README.md", text)
        write_text(folder / "splits.json", json.dumps(found.split, indent=1, sort_keys=True) + "\n")
        inputs = {"pairs": fingerprint(PAIRS)}
        write_manifest(folder, Manifest(len(found.analogies), inputs, recipe, {"assemble": VERSION}))


if __name__ == "__main__":
    hand_over("assemble")
    main()
