"""What the filter did, on one self-contained page: counts, survival curves, pictures of what left and what stayed."""

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lorweb.charts import line_chart, page_style
from lorweb.config import Check
from lorweb.data.checks import applies
from lorweb.data.decide import PairPlace, Scores

SIDE: Final = 96  # px of a picture
ROW: Final = 6  # pictures in a row

Pair = tuple[Image.Image, Image.Image]


@dataclass(frozen=True)
class Shown:
    """One pair to look at."""

    id: str
    task: str
    value: float
    before: str  # addresses that need no network
    after: str


@dataclass(frozen=True)
class BoundRows:
    """What one bound of a check did, for the eye: pairs just inside, just outside, and farthest outside."""

    name: str
    threshold: float
    refused: int
    kept: Sequence[Shown]
    near: Sequence[Shown]
    far: Sequence[Shown]


@dataclass(frozen=True)
class FilterPage:
    """Everything the page shows."""

    counts: Mapping[str, Mapping[str, int]]  # edit type -> {"kept", check: pairs}
    curves: Sequence[tuple[str, str]]  # (title, SVG)
    bounds: Sequence[BoundRows]


def bound_rows(
    checks: Sequence[Check],
    scores: Scores,
    places: Mapping[str, PairPlace],
    refused: Mapping[str, str],
    images: Callable[[str], Pair],
) -> list[BoundRows]:
    """Rows of pictures for each bound. `refused` is pair id -> the check that refused it, as `reject` names checks."""
    found = []
    for check in checks:
        for side, limit in (("min", check.min), ("max", check.max)):
            if limit is None:
                continue
            name = f"{check.score}_{side}"
            own = {n: s[check.score] for n, s in scores.items() if applies(check, places[n].edit_type)}
            sign = 1.0 if side == "min" else -1.0
            ordered = sorted(own, key=lambda n: (sign * own[n], n))
            out = [n for n in ordered if refused.get(n) == name]
            kept = [n for n in ordered if n not in refused]
            show = _shower(own, places, images)
            title = f"{check.score} {side} ({', '.join(check.edit_types) or 'all'})"
            near, far = out[::-1][:ROW], out[:ROW] if len(out) > ROW else []
            found.append(BoundRows(title, limit, len(out), show(kept[:ROW]), show(near), show(far)))
    return found


def _shower(
    values: Mapping[str, float], places: Mapping[str, PairPlace], images: Callable[[str], Pair]
) -> Callable[[Iterable[str]], list[Shown]]:
    def show(names: Iterable[str]) -> list[Shown]:
        return [Shown(n, places[n].task, values[n], *(jpeg_uri(image) for image in images(n))) for n in names]

    return show


def counts_of(places: Mapping[str, PairPlace], refused: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """{edit type: {"kept": pairs, check: pairs}}."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for name, place in places.items():
        table[place.edit_type][refused.get(name, "kept")] += 1
    return {kind: dict(sorted(found.items())) for kind, found in sorted(table.items())}


def survival_charts(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """One chart for each bound, one line for each edit type, from the rows of `checks.survival`."""
    series: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        series[row["check"]][row["edit_type"]].append((row["threshold"], row["kept"]))
    charts = [(name, line_chart(lines, f"{name}: share kept")) for name, lines in sorted(series.items())]
    return [(name, chart) for name, chart in charts if chart]


def jpeg_uri(image: Image.Image) -> str:
    """A small picture as an address that needs no network."""
    small, buffer = image.convert("RGB"), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def render(page: FilterPage) -> str:
    """The page as HTML; the same content gives the same text."""
    import jinja2

    template = Path(__file__).with_name("filter.html").read_text(encoding="utf-8")
    checks = sorted({check for found in page.counts.values() for check in found} - {"kept"})
    html: str = jinja2.Template(template, autoescape=True).render(style=page_style(), page=page, checks=checks)
    return html
