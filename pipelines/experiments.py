"""Experiments side by side: `python -m pipelines.experiments`, or `make table`, after `dvc exp run` (docs/versions.md).

A row per experiment, the commit that they started from and the workspace: the parameters in which they differ, losses
on fixed noise, and what evaluation found, with 95 % intervals. The best of a column is bold. Numbers of an earlier run
that an experiment has merely inherited are left out.
"""

import argparse
import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipelines._experiments import Experiment, Measure, experiments
from pipelines._stage import write_text
from pipelines.summary import WIDTH

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS: Final = (  # in this order; least is best but for the gap, and "trained values" is no contest
    "trained values",
    "loss",
    "validation seen",
    "validation unseen",
    "mse_to_truth seen",
    "mse_to_truth unseen",
    "minus single LoRA seen",
    "minus single LoRA unseen",
    "exemplar gap seen",
    "exemplar gap unseen",
)
DEFAULT: Final = ("mse_to_truth unseen", "validation unseen", "loss")  # sorted by the first of these that is there


def sort_key(rows: Sequence[Experiment], asked: str | None) -> str:
    """The column to sort by. Raises ValueError for one that no row has."""
    present = columns_of(rows)
    if asked and asked not in present:
        raise ValueError(f"no experiment has '{asked}'; there are: {', '.join(present) or 'none'}")
    return asked or next((name for name in DEFAULT if name in present), "")


def columns_of(rows: Sequence[Experiment]) -> list[str]:
    """Columns in which some row has a number."""
    return [name for name in COLUMNS if any(name in row.measures for row in rows)]


def differing(rows: Sequence[Experiment]) -> list[str]:
    """Parameters in which rows differ, by dotted name."""
    names = list(dict.fromkeys(name for row in rows for name in row.params))
    return [name for name in names if len({row.params.get(name) for row in rows}) > 1]


def ordered(rows: Sequence[Experiment], column: str) -> list[Experiment]:
    """Best first; rows without the number last, in the order in which they came."""
    return sorted(rows, key=lambda row: _rank(row, column))


def _rank(row: Experiment, column: str) -> float:
    found = row.measures.get(column)
    return math.inf if found is None else -found.mean if column.startswith("exemplar gap") else found.mean


def lines(rows: Sequence[Experiment]) -> list[list[str]]:
    """Header and cells as text."""
    params, columns = differing(rows), columns_of(rows)
    header = ["experiment", "state", *params, *columns]
    return [header, *([row.name, row.state, *_params(row, params), *_cells(row, columns)] for row in rows)]


def _params(row: Experiment, names: Sequence[str]) -> list[str]:
    return [_plain(row.params.get(name, "")) for name in names]


def _plain(text: str) -> str:
    value = json.loads(text) if text else ""
    return value if isinstance(value, str) else text


def _cells(row: Experiment, columns: Sequence[str]) -> list[str]:
    return [_number(name, row.measures[name]) if name in row.measures else "" for name in columns]


def _number(column: str, found: Measure) -> str:
    return f"{found.mean:.0f}" if column == "trained values" else str(found)


def as_csv(rows: Sequence[Experiment]) -> str:
    """One line per experiment; intervals in columns of their own, numbers in full."""
    params, columns = differing(rows), columns_of(rows)
    wide = [name for name in columns if any(row.measures[name].low is not None for row in rows if name in row.measures)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{name} {end}" for name in wide for end in ("low", "high")]
    writer.writerow(["experiment", "state", *params, *columns, *ends])
    for row in rows:
        found = [row.measures.get(name) for name in columns]
        bounds = [row.measures.get(name) for name in wide]
        values = ["" if f is None else f.mean for f in found] + [
            v for b in bounds for v in ((b.low, b.high) if b else ("", ""))
        ]
        writer.writerow([row.name, row.state, *_params(row, params), *values])
    return text.getvalue()


def as_markdown(rows: Sequence[Experiment]) -> str:
    """The table as Markdown."""
    header, *body = lines(rows)
    shown = [header, ["---"] * len(header), *body]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in shown)


def as_table(rows: Sequence[Experiment]) -> "Table":
    """The table for a terminal."""
    from rich.table import Column, Table

    header, *body = lines(rows)
    columns = columns_of(rows)
    best = {name: min(_rank(row, name) for row in rows) for name in columns if name != "trained values"}
    table = Table(*(Column(name, overflow="fold") for name in header))
    for row, line in zip(rows, body, strict=True):
        first = len(line) - len(columns)
        bold = {
            first + i for i, name in enumerate(columns) if name in row.measures and _rank(row, name) == best.get(name)
        }
        table.add_row(*(f"[bold]{cell}[/]" if i in bold else cell for i, cell in enumerate(line)))
    return table


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.experiments", description=__doc__)
    parser.add_argument("revisions", nargs="*", metavar="REV", help="commits that the experiments started from (HEAD)")
    parser.add_argument("--sort", metavar="COLUMN", help=f"one of: {', '.join(COLUMNS)}")
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    given = parser.parse_args()
    from dvc.exceptions import DvcException
    from rich.console import Console

    try:
        rows = experiments(Path(), given.revisions or None)
        rows = ordered(rows, sort_key(rows, given.sort))
    except (DvcException, ValueError) as error:
        raise SystemExit(f"experiments: {error}") from error
    console = Console()
    (console if console.is_terminal else Console(width=2 * WIDTH)).print(as_table(rows))
    for path, text in ((given.csv, as_csv), (given.markdown, as_markdown)):
        if path:
            write_text(path, text(rows))


if __name__ == "__main__":
    main()
