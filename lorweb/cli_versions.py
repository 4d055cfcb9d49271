"""Versions of a registered model for people: columns, dates, and of each hash as much as tells it apart."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from lorweb.cli_output import say
from lorweb.terminal import one_line

SHORT: Final = 12  # characters of a hash or a run's id; --json has them whole
_HEX: Final = re.compile(r"[0-9a-f]{17,}")
# said already by a row of its own, or meant for machines
_LEFT_OUT: Final = ("mlflow.", "dvc_outs", "content_sha256", "decision", "ray_job_id", "rolled_back")

Row = Sequence[str]


def list_rows(versions: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """The columns version, aliases, made, decision, content of what `lorweb registry list --json` prints."""
    for facts in versions:
        aliases, made = ", ".join(facts["aliases"]), when(facts["made"])
        yield str(facts["version"]), aliases, made, _decision(facts), short(facts["content"])


def show_rows(facts: Mapping[str, Any]) -> Iterator[Row]:
    """(what, value) of what `lorweb registry show --json` prints, the decision with its reasons first."""
    yield "version", str(facts["version"])
    yield "aliases", ", ".join(facts["aliases"]) or "none"
    yield "made", when(facts["made"])
    yield "files", facts["files"]
    yield "decision", _decision(facts) or "none"
    yield from (("", f"- {reason}") for reason in (facts["decision"] or {}).get("reasons", []))
    yield "content", short(facts["content"])
    yield "run", short(facts["run"])
    for key, value in sorted(facts["tags"].items()):
        if value and not key.startswith(_LEFT_OUT):
            yield key.replace("_", " "), short(_counts(value))


def history_rows(events: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """The columns at, what, from, to, by, why of `lorweb registry history --json`; of a refusal's reasons the first."""
    for event in events:
        first, *more = event["why"].split(" | ") if event["what"] == "refused" else [event["why"]]
        others = f" (and {len(more)} more: lorweb registry show {event['to']})" if more else ""
        steps = ("-" if event[end] is None else str(event[end]) for end in ("from", "to"))
        yield when(event["at"]), event["what"], *steps, event["by"], f"{first}{others}"


def when(iso: str) -> str:
    """2026-03-01T10:20:30+00:00 -> 2026-03-01 10:20 UTC."""
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M UTC")


def short(text: str) -> str:
    """The text with every long hash in it cut to `SHORT` characters."""
    return _HEX.sub(lambda found: found[0][:SHORT], text)


def print_table(columns: Row, rows: Sequence[Row]) -> None:
    """A heading and aligned columns; on a terminal long cells are wrapped in their column, elsewhere nothing is."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[one_line(cell) for cell in row] for row in rows]
    console = Console(emoji=False)
    if console.is_terminal:
        table = Table(*columns, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for row in cells:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    lines = [list(columns), *cells]
    widths = [max(cell_len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        say("  ".join(padded).rstrip())


def _decision(facts: Mapping[str, Any]) -> str:
    """What the gate said last, which a move by hand goes past."""
    by_hand = facts["state"] == "refused" and "champion" in facts["aliases"]
    return "refused, then promoted by hand" if by_hand else str(facts["state"])


def _counts(value: str) -> str:
    """Licences are kept as JSON {name: count}: the most frequent first."""
    try:
        counts = json.loads(value)
    except ValueError:
        return value
    if not isinstance(counts, dict):
        return value
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
