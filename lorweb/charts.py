"""Charts of the report as inline SVG; colours come from the page's style, so that both themes work."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

WIDTH: Final = 720  # user units; the page scales the drawing to its own width


def page_style() -> str:
    """The style sheet of every page that we write: light and dark, laptop and phone, and the classes of the charts."""
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def line_chart(series: Mapping[str, Sequence[tuple[float, float]]], title: str) -> str:
    """Lines over one x axis; points that are not finite are left out. Empty text if nothing is left to draw."""
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for name, points in series.items()
    }
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return ""
    xs = [x for points in finite.values() for x, _ in points]
    ys = [y for points in finite.values() for _, y in points]
    left, bottom, height = 56, 200, 240
    span_x, span_y = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0

    def place(x: float, y: float) -> str:
        across, up = (x - min(xs)) / span_x * (WIDTH - left - 130), (y - min(ys)) / span_y * (bottom - 16)
        return f"{left + across:.1f},{bottom - up:.1f}"

    parts = [f'<line class="axis" x1="{left}" x2="{WIDTH - 130}" y1="{bottom}" y2="{bottom}"/>']
    for y, anchor in ((max(ys), 20), (min(ys), bottom)):
        parts.append(f'<text class="value" x="{left - 6}" y="{anchor}" text-anchor="end">{y:.3g}</text>')
    for x, position in ((min(xs), left), (max(xs), WIDTH - 130)):
        parts.append(f'<text class="value" x="{position}" y="{bottom + 18}" text-anchor="middle">{x:g}</text>')
    for index, (name, points) in enumerate(finite.items()):
        path = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline class="line s{index % 6}" points="{path}"/>')
        parts.append(f'<text class="label t{index % 6}" x="{WIDTH - 122}" y="{24 + 18 * index}">{escape(name)}</text>')
    return _svg(height, title, parts)


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
