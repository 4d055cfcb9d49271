"""Two pairs of one task -> (a, a', b, b') -> data/analogies: splits by subject and by task, and the leak check."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorweb.config import load_params
from lorweb.data.leaks import find_leaks
from lorweb.data.manifest import Manifest, file_sha256, fingerprint, write_manifest
from lorweb.data.shards import read_index, write_rows
from lorweb.data.splits import Counts, PairFacts, Shares, evaluation_analogies, split_subjects, training_pairs
from lorweb.data.tasks import TASKS, holdouts, read_tasks
from lorweb.records import ANALOGY, PAIR, TRAIN_PAIR
from pipelines._stage import StageFailed, publishing, stage, write_text

VERSION: Final = 1
OUT, PAIRS = Path("data/analogies"), Path("data/pairs")
SHOWN_LEAKS: Final = 20


def read_facts() -> list[PairFacts]:
    """What splitting needs of every pair."""
    columns = ["id", "task", "edit_type", "subject", "category", "instruction"]
    rows = read_index(PAIRS, PAIR, columns, digests=["before", "after"])
    return [PairFacts(*(row[c] for c in columns), row["before_sha256"], row["after_sha256"]) for row in rows]


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
        train = training_pairs(pairs, split, holdout, cfg.max_pairs_per_task)
        analogies = evaluation_analogies(pairs, split, holdout, Counts(cfg.test_per_task, cfg.val_per_task))
        refuse_leaks(pairs, train, analogies, holdout)
        if not train:
            raise StageFailed(f"no pair is left to train on, of {len(everything)}; see metrics/filter.json for why")
        recipe = {"seed": params.seed, "catalogue_sha256": file_sha256(PAIRS / TASKS), **cfg.model_dump(mode="json")}
        publish(recipe, split, train, analogies)
        metrics.update(
            rows_in=len(everything),
            train_pairs=len(train),
            train_tasks=len({pair.task for pair in train}),
            subjects=dict(sorted(Counter(split.values()).items())),
            cells=cells(analogies),
            rare_tasks=rare,
            tasks_without_test=sorted({p.task for p in pairs} - {r["task"] for r in analogies if r["split"] == "test"}),
        )


def publish(
    recipe: Mapping[str, Any], split: Mapping[str, str], train: list[PairFacts], analogies: list[dict[str, Any]]
) -> None:
    """Write data/analogies: explicit analogies, the pairs training draws from, and who is in which split."""
    rows = [{"pair": p.id, "task": p.task, "subject": p.subject, "instruction": p.instruction} for p in train]
    with publishing(OUT, "assemble") as folder:
        write_rows(analogies, folder, ANALOGY)
        write_rows(rows, folder / "train", TRAIN_PAIR)
        write_text(folder / "splits.json", json.dumps(split, indent=1, sort_keys=True) + "\n")
        write_manifest(folder, Manifest(len(analogies), {"pairs": fingerprint(PAIRS)}, recipe, {"assemble": VERSION}))


if __name__ == "__main__":
    main()
