"""Thresholds of the filter from a sample whose truth is known: what each costs in good pairs, what it catches of bad.

Scores were measured by the filter stage and stored with every pair, kept or refused: nothing is measured again here.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lorweb.basis.files import write_text
from lorweb.charts import line_chart, page_style
from lorweb.config import Check, parse_params
from lorweb.data.checks import applies
from lorweb.data.shards import iter_tables
from lorweb.records import PAIR, REJECT, load_scores

GOOD: Final = "good"
POINTS: Final = 41  # thresholds of a curve


@dataclass(frozen=True)
class Sample:
    """One measured pair: its edit type, "good" or the way in which it is bad, and its scores."""

    edit_type: str
    kind: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Bound:
    """One bound of a check, moved so that it loses a given share of the good pairs.

    Attributes:
        check: its place in filter.checks.
        old, new: thresholds.
        lost: share of the good pairs that `new` refuses, alone.
        caught: kind of bad pair -> share that it refuses, alone.
    """

    check: int
    score: str
    side: str  # "min" or "max"
    edit_types: tuple[str, ...]
    old: float
    new: float
    lost: float
    caught: Mapping[str, float]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.score} {self.side} ({', '.join(self.edit_types) or 'all'})"


def read_samples(data: Path, labels: Path) -> list[Sample]:
    """Every scored candidate below `data`. `labels` is a JSON list of {"id", "kind"}: the bad ones.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: the labels are no such list, or name a pair that was not measured.
    """
    try:
        kinds = {str(row["id"]): str(row["kind"]) for row in json.loads(labels.read_text(encoding="utf-8"))}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'{labels} is no JSON list of {{"id", "kind"}} ({error}); name the bad ones so') from error
    types = {
        row["id"]: row["edit_type"]
        for table in iter_tables(data / "candidates", PAIR, ["id", "edit_type"])
        for row in table.to_pylist()
    }
    samples: dict[str, Sample] = {}
    for folder, schema in ((data / "pairs", PAIR), (data / "pairs" / "rejects", REJECT)):
        for table in iter_tables(folder, schema, ["id", "scores"]):
            for row in table.to_pylist():
                scores = load_scores(row["scores"])
                if scores and row["id"] in types:  # without any it could not be measured
                    samples[row["id"]] = Sample(types[row["id"]], kinds.get(row["id"], GOOD), scores)
    lost = sorted(set(kinds) - set(samples))
    if lost:
        raise ValueError(f"{labels} names {len(lost)} pairs without scores in {data}, first {lost[0]}")
    return list(samples.values())


def calibrate(samples: Sequence[Sample], checks: Sequence[Check], loss: float) -> list[Bound]:
    """Each bound of each check at the threshold that loses `loss` (0..1) of the good pairs it applies to.

    Bounds on edit types of which there is no good pair are left out.

    Raises:
        ValueError: `loss` is not in [0, 1), or no bound is left.
    """
    if not 0 <= loss < 1:
        raise ValueError(f"--loss is {loss}; it is a share of the good pairs, from 0 and below 1")
    bounds = []
    for number, check in enumerate(checks):
        own = [s for s in samples if applies(check, s.edit_type) and check.score in s.scores]
        good = np.array([s.scores[check.score] for s in own if s.kind == GOOD])
        for side, old in (("min", check.min), ("max", check.max)):
            if old is None or not len(good):  # nothing says where a bound on absent edit types should lie
                continue
            new = rounded(float(np.quantile(good, loss if side == "min" else 1 - loss)), down=side == "min")
            caught = {
                kind: share(np.array([s.scores[check.score] for s in own if s.kind == kind]), side, new)
                for kind in sorted({s.kind for s in own} - {GOOD})
            }
            lost = share(good, side, new)
            bounds.append(Bound(number, check.score, side, check.edit_types, old, new, lost, caught))
    if not bounds:
        raise ValueError("no good pair has a score that filter.checks name; score them with the filter stage first")
    return bounds


def share(values: Any, side: str, threshold: float) -> float:
    """Share of the values that a bound refuses."""
    refused = values < threshold if side == "min" else values > threshold
    return float(refused.mean()) if len(values) else 0.0


def rounded(value: float, down: bool) -> float:
    """To three significant digits, on the side that loses less."""
    if value == 0:
        return 0.0
    scale = 10.0 ** (2 - int(np.floor(np.log10(abs(value)))))
    return float((np.floor if down else np.ceil)(value * scale) / scale)


def write_thresholds(params: Path, bounds: Sequence[Bound]) -> None:
    """Put the new thresholds into a parameter file; everything else in it, comments included, stays as it is.

    Raises:
        ValueError: its checks do not stand one to a line, or would not be valid.
    """
    lines = params.read_text(encoding="utf-8").splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if re.match(r"\s*- \{score: ", line)]
    if len(places) <= max((bound.check for bound in bounds), default=-1):
        raise ValueError(
            f"{params}: filter.checks do not stand one to a line as '- {{score: ...}}'; change them by hand"
        )
    for bound in bounds:
        at = places[bound.check]
        lines[at], found = re.subn(rf"(\b{bound.side}: )[^,}}]+", rf"\g<1>{bound.new:g}", lines[at], count=1)
        if not found or f"score: {bound.score}" not in lines[at]:
            raise ValueError(f"{params}: line {at + 1} is not the check on {bound.score}; change it by hand")
    import yaml

    parse_params(yaml.safe_load("".join(lines)), str(params))
    write_text(params, "".join(lines))


def curves(samples: Sequence[Sample], bound: Bound) -> str:
    """Survival curves as SVG: share of the good pairs and of each kind that a threshold would keep."""
    own = [s for s in samples if (not bound.edit_types or s.edit_type in bound.edit_types) and bound.score in s.scores]
    values = np.array([s.scores[bound.score] for s in own])
    steps = np.unique(np.quantile(values, np.linspace(0, 1, POINTS)))
    series = {}
    for kind in [GOOD, *sorted({s.kind for s in own} - {GOOD})]:
        found = np.array([s.scores[bound.score] for s in own if s.kind == kind])
        series[kind] = [(float(step), 1 - share(found, bound.side, float(step))) for step in steps]
    return line_chart(series, f"{bound.name}: share kept")


def write_page(path: Path, samples: Sequence[Sample], bounds: Sequence[Bound]) -> None:
    """One self-contained HTML page: a survival curve for each bound, atomically."""
    import jinja2

    template = Path(__file__).parent / "data" / "calibration.html"
    charts = [(bound, curves(samples, bound)) for bound in bounds]
    page = jinja2.Template(template.read_text(encoding="utf-8"), autoescape=True).render(
        style=page_style(), charts=charts
    )
    write_text(path, page)
