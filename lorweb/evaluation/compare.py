"""Two models against each other from their measured answers, wherever these come from: no stage, no registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lorweb.data.manifest import read_manifest
from lorweb.data.shards import read_index, read_table
from lorweb.evaluation.aggregate import Comparison, Difference, Row, paired
from lorweb.evaluation.measuring import SCORED, answer_scores
from lorweb.evaluation.results import Measured, rows_of
from lorweb.records import ANALOGY, PAIR

SHARED: Final = ("set", "metrics", "backbones")
"""What two protocols must share; other noises, steps, instructions or another device may be what is compared."""


@dataclass(frozen=True)
class Contender:
    """One model of an evaluation: `name` as in the scores of `measured`; `protocol` of its manifest, {} if unknown."""

    name: str
    measured: Sequence[Measured]
    protocol: Mapping[str, Any] = field(default_factory=dict)


def compare(x: Contender, y: Contender, bootstrap: int, seed: int) -> dict[str, dict[str, Difference]]:
    """{metric: {cell: mean over tasks of x - y, its 95 % interval and p value}} of every metric that both have.

    Answers are matched by the names of their analogies; the two may be of one evaluation or of two on one set.

    Raises:
        ValueError: the two did not answer the same analogies, or one of them answered none; or their protocols are
            known and differ in the evaluation set, the metrics or the backbones.
    """
    _check_comparable(x, y)
    of_x, of_y = ({m.analogy: m for m in c.measured if c.name in m.scores} for c in (x, y))
    odd = sorted(of_x.keys() ^ of_y.keys())
    if odd or not of_x:
        raise ValueError(
            f"{x.name} answered {len(of_x)} analogies and {y.name} {len(of_y)}; {len(odd)} are not among both, as "
            f"{odd[:3]}; evaluate both on one evaluation set"
        )
    rows = [row for c, label in ((x, "x"), (y, "y")) for row in _rows(c, label)]
    shared = set.intersection(*(set(row.metrics) for row in rows))
    return {
        metric: {
            cell: paired(rows, Comparison("x", "y", metric, cell), bootstrap, seed)
            for cell in sorted({row.cell for row in rows})
        }
        for metric in sorted(shared)
    }


def _check_comparable(x: Contender, y: Contender) -> None:
    """Equal names of analogies do not make one set: images, metrics and networks must be the same too."""
    if not x.protocol or not y.protocol:
        return
    odd = [name for name in SHARED if x.protocol.get(name) != y.protocol.get(name)]
    if odd:
        told = "; ".join(
            f"{name}: {x.protocol.get(name)} of {x.name}, {y.protocol.get(name)} of {y.name}" for name in odd
        )
        raise ValueError(f"{x.name} and {y.name} were measured otherwise ({told}); evaluate both on one evaluation set")


def _rows(contender: Contender, label: str) -> list[Row]:
    """The rows of one model under a label that the other cannot have."""
    return [
        Row(row.task, row.cell, label, row.metrics)
        for row in rows_of(contender.measured)
        if row.model == contender.name
    ]


def read_contender(name: str, evaluation: Path, analogies: Path, pairs: Path) -> Contender:
    """A model of a finished evaluation with the protocol that it was measured by; see `read_measured`."""
    return Contender(name, read_measured(evaluation, analogies, pairs), read_manifest(evaluation)["params"])


def read_measured(evaluation: Path, analogies: Path, pairs: Path) -> list[Measured]:
    """What the evaluate stage measured, from data/evaluation, data/analogies and data/pairs.

    Raises:
        FileNotFoundError, ValueError: a folder is missing or holds something else.
    """
    known = {row["id"]: row for row in read_table(analogies, ANALOGY).to_pylist()}
    categories = {row["id"]: row["category"] for row in read_index(pairs, PAIR, ["id", "category"])}
    found = []
    for name, draws in sorted(answer_scores(read_table(evaluation / "scores", SCORED).to_pylist()).items()):
        if name not in known:
            raise ValueError(f"{evaluation} has scores of analogy {name}, which {analogies} does not have")
        found.append(Measured.of(known[name], categories[known[name]["query"]], draws))
    return found
