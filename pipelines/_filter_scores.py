"""Filter, first part: every scorer over all candidate pairs, each kept by itself, and read again as evidence.

A scorer is a row function with actors and a journal of its own: adding or changing one leaves the others' work alone.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from sys import intern
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lorweb.config import Filter
from lorweb.data.checks import Refusal, reject
from lorweb.data.decide import Evidence
from lorweb.data.rejects import Rejected
from lorweb.data.scorers.base import SIDES, ScorerFacts
from lorweb.data.scorers.build import describe
from lorweb.data.scorers.entries import ScorerConfig
from lorweb.data.scorers.names import check_scorers, scores_in_use
from lorweb.data.shards import iter_tables
from lorweb.data.subjects import WEIGHTS
from lorweb.records import NOTE, PAIR, SOURCE, load_scores, unpack_features
from pipelines._filter_worker import ScorePairs, picked, schema_of
from pipelines._results import CHUNK, Results
from pipelines._rows import Execute, Item, RowJob, run_rows

VERSION: Final = 4
SOURCES: Final = Path("data/sources")
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """Evidence of all pairs that could be measured, and the rejects of the others.

    Attributes:
        pace: function -> how fast it went.
        revisions: scorer -> its revision, for the manifest.
        notes: what scorers said in words, as tables of `records.NOTE`.
    """

    evidence: Evidence
    rejects: list[dict[str, Any]]
    pace: Mapping[str, Mapping[str, Any]]
    revisions: Mapping[str, str]
    notes: Callable[[], Iterator[pa.Table]]


def measure(cfg: Filter, candidates: Path, items: list[Item], execute: Execute | None) -> Measured:
    """Measure all candidates by all scorers, as far as earlier runs have not.

    `items` hold id, source_id, at and digests. A pair that one scorer refuses is not shown to the next.

    Raises:
        FileNotFoundError, ValueError: what a scorer needs is not there, scorers that do not go together, or a score
            that nobody gives; before anything is measured.
        StageFailed: a scorer refused too many pairs.
    """
    entries = [(entry, describe(entry)) for entry in cfg.scorers]
    facts = [own for _, own in entries]
    check_scorers(cfg, facts)
    words = _words(candidates, facts, items)
    parts: list[tuple[ScorerFacts, Results]] = []
    rejects: list[dict[str, Any]] = []
    left = items
    for entry, own in entries:
        results = run_rows(job_of(cfg, candidates, entry, own), (_item(item, own, words) for item in left), execute)
        parts.append((own, results))
        rejects += results.rejects
        gone = {row["id"] for row in results.rejects}
        left = [item for item in left if item["id"] not in gone] if gone else left
    scores, unmeasured = _merged(cfg, parts, {item["id"] for item in left})
    return Measured(
        _evidence(parts, scores),
        rejects + unmeasured,
        {f"score_{own.name}": results.pace for own, results in parts},
        {own.name: own.revision for own in facts},
        lambda: _notes(parts),
    )


def job_of(cfg: Filter, candidates: Path, entry: ScorerConfig, facts: ScorerFacts) -> RowJob:
    """The row job of one scorer; names are unique, so that its journals are its own."""
    return RowJob(
        stage="filter",
        function=f"score_{facts.name}",
        worker=ScorePairs,
        arguments=(str(candidates), entry, facts),
        identity=(VERSION, facts.name, facts.revision),
        schema=schema_of(facts),
        pool=entry.pool,
        max_error_rate=cfg.max_error_rate,
        picked=picked(entry),
        reads=(str(candidates),),
    )


def _item(item: Item, facts: ScorerFacts, words: Mapping[str, Mapping[str, str]]) -> Item:
    """What decides the answer of one scorer: a changed instruction is no new work where pixels alone are read."""
    own = {name: item[name] for name in ("id", "at", *(f"{side}_sha256" for side in SIDES))}
    return {**own, **{name: words[name][item["id"]] for name in facts.reads}}


def _words(candidates: Path, facts: Sequence[ScorerFacts], items: Sequence[Item]) -> dict[str, dict[str, str]]:
    """Instruction, edit type and caption of every pair, as far as a scorer reads them: {name: {pair id: text}}."""
    wanted = {name for own in facts for name in own.reads}
    words: dict[str, dict[str, str]] = {name: {} for name in wanted}
    for name in wanted & {"instruction", "edit_type"}:
        for table in iter_tables(candidates, PAIR, ["id", name]):
            words[name] |= zip(table["id"].to_pylist(), map(intern, table[name].to_pylist()), strict=True)
    if "caption" in wanted:
        captions: dict[str, str] = {}
        for table in iter_tables(SOURCES, SOURCE, ["id", "caption"]):
            captions |= zip(table["id"].to_pylist(), table["caption"].to_pylist(), strict=True)
        words["caption"] = {item["id"]: captions.get(item["source_id"], "") for item in items}
    return words


Scores = dict[str, dict[str, float]]


def _merged(
    cfg: Filter, parts: Sequence[tuple[ScorerFacts, Results]], left: set[str]
) -> tuple[Scores, list[dict[str, Any]]]:
    """All scores of the pairs that every scorer took, and the rejects of those that lack a score which is in use."""
    scores: Scores = {name: {} for name in sorted(left)}
    lacking: dict[str, Rejected] = {}
    for facts, results in parts:
        used = scores_in_use(cfg).intersection(facts.keys)
        for table in results.tables(columns=["id", "scores", "lacks"]):
            for row in table.to_pylist():
                if row["id"] not in scores:
                    continue
                scores[row["id"]] |= (found := load_scores(row["scores"]))
                if row["lacks"] != "null" and used - set(found):
                    lacking.setdefault(row["id"], Rejected(*json.loads(row["lacks"])))
    rejects = [reject(Refusal(name, "filter", scores.pop(name)), why) for name, why in lacking.items()]
    return scores, rejects


def _evidence(parts: Sequence[tuple[ScorerFacts, Results]], scores: Scores) -> Evidence:
    """Features are streamed at every call. `content`: of the first encoder that is not spatial, or else the layout."""
    places = {name: results for facts, results in parts for name in facts.places}
    content = next((name for name in places if name not in WEIGHTS), "layout")
    hashed = next(results for facts, results in parts if facts.hashes)
    return Evidence(
        scores=scores,
        changes={name: _changes(results, name, scores) for facts, results in parts for name in facts.encoders},
        spatial={name: _sides(places[name], name, scores) for name in WEIGHTS if name in places},
        content=_sides(places[content], content, scores) if content in places else None,
        hashes=_hashes(hashed, scores),
    )


def _notes(parts: Sequence[tuple[ScorerFacts, Results]]) -> Iterator[pa.Table]:
    """Streamed and merged in the order of the pairs; a pair of which nobody said anything has no row."""

    def told(facts: ScorerFacts, results: Results) -> Iterator[tuple[str, str, Any]]:
        for table in results.tables(columns=["id", "notes"]):
            rows = table.to_pylist()
            yield from ((row["id"], facts.name, json.loads(row["notes"])) for row in rows if row["notes"] != "{}")

    together = groupby(merge(*(told(*part) for part in parts)), key=itemgetter(0))
    rows = ((name, json.dumps({scorer: own for _, scorer, own in said}, sort_keys=True)) for name, said in together)
    while chunk := list(islice(rows, CHUNK)):
        yield pa.table([pa.array(column, pa.string()) for column in zip(*chunk, strict=True)], schema=NOTE)


def _hashes(results: Results, scores: Scores) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for table in results.tables(columns=["id", "hashes"]):
        for row in table.to_pylist():
            if row["id"] in scores:
                hashes = json.loads(row["hashes"])
                found[row["id"]] = (int(hashes["before"], 16), int(hashes["after"], 16))
    return found


def _changes(results: Results, encoder: str, scores: Scores) -> Callable[[], Iterator[tuple[str, Vector]]]:
    return lambda: ((name, change) for name, (change,) in _rows(results, [f"change.{encoder}"], scores))


def _sides(results: Results, encoder: str, scores: Scores) -> Callable[[], Iterator[tuple[str, Vector, Vector]]]:
    columns = [f"{side}.{encoder}" for side in SIDES]
    return lambda: ((name, before, after) for name, (before, after) in _rows(results, columns, scores))


def _rows(results: Results, columns: list[str], scores: Scores) -> Iterator[tuple[str, list[Vector]]]:
    for table in results.tables(columns=["id", *columns]):
        for row in table.to_pylist():
            if row["id"] in scores:
                yield row["id"], [unpack_features(row[name]) for name in columns]
