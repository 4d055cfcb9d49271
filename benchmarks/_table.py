"""The results as a Markdown table.

python benchmarks/_table.py benchmarks/results/*.json                              print it
python benchmarks/_table.py benchmarks/results/*.json --into benchmarks/README.md  put it between the marks there
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from _report import Row, machine

MARKS = ("<!-- measured -->", "<!-- /measured -->")


def markdown(rows: Sequence[Row]) -> str:
    """The table of all rows, profiles of what missed its target, and the commands and machines that gave them."""
    return "\n".join([*times(rows), *profiles(rows), "", *sources(rows)])


def times(rows: Sequence[Row], ours: bool = False) -> list[str]:
    """The lines of the table alone; with a column that says which of our own contestants a row is about, if asked."""
    named = " ours |" if ours else ""
    head = f"| what |{named} rival | ratio | 90 % interval | target | met | ours, ms | rival, ms | n |"
    found = [head, "|---" * (9 + ours) + "|"]
    for row in rows:
        who = f" {contestant(row)} |" if ours else ""
        found.append(
            f"| {row['name']} |{who} {row['rival']} | {row['ratio']:.3f} | {row['low']:.3f} – {row['high']:.3f} | "
            f"{judged(row)} | {row['ms']:.4g} | {row['rival_ms']:.4g} | {row['n']} |"
        )
    return found


def contestant(row: Row) -> str:
    """Whom a row compares with its rival: its unit names both."""
    return str(row["unit"].partition(", ")[2].removesuffix(f" / {row['rival']}"))


def judged(row: Row) -> str:
    """The cells of the target and of whether it is met; empty ones without a target."""
    return " | " if row["target"] is None else f"≤ {row['target']:g} | {'yes' if row['met'] else '**no**'}"


def profiles(rows: Sequence[Row]) -> list[str]:
    """Where the time goes on both sides of what missed its target."""
    missed = [line for row in rows if "profile" in row for line in _profile(row)]
    if not missed:
        return []
    return ["", "Where a target is missed, the time of one run by operator (torch.profiler, ms):", "", *missed]


def sources(rows: Sequence[Row]) -> list[str]:
    """The commands and machines that gave the rows."""
    found = dict.fromkeys((row["command"], row["machine"]) for row in rows)
    return ["Measured by", "", *(f"- `{command}` on {where}" for command, where in found)]


def _profile(row: Row) -> list[str]:
    return [f"- {row['name']}, against {row['rival']} ({row['ratio']:.3f}, target {row['target']:g})"] + [
        f"  - {who}: " + ", ".join(f"{name.removeprefix('aten::')} {ms:.4g}" for name, ms in spent.items())
        for who, spent in row["profile"].items()
    ]


def paste(table: str, path: Path, marks: tuple[str, str] = MARKS) -> None:
    """Put the table between the marks of a file. Raises ValueError if the marks are not there."""
    before, opening, rest = path.read_text(encoding="utf-8").partition(marks[0])
    _, closing, after = rest.partition(marks[1])
    if not (opening and closing):
        raise ValueError(f"{path} has no '{marks[0]}' followed by '{marks[1]}'; add both lines where the table belongs")
    path.write_text(f"{before}{opening}\n\n{table}\n\n{closing}{after}", encoding="utf-8")


def publish(rows: Sequence[Row], table: str, given: argparse.Namespace, marks: tuple[str, str]) -> None:
    """Print a script's own table; write the rows to `given.json` and paste the table into `given.into` if asked to."""
    print(table)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if given.into:
        paste(table, given.into, marks)


def main(argv: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("results", type=Path, nargs="*", help="JSON files; without any, the machine is printed")
    options.add_argument("--into", type=Path, help="a Markdown file with the marks")
    given = options.parse_args(argv)
    rows = [row for path in given.results for row in json.loads(path.read_text(encoding="utf-8"))]
    if not rows:
        print(machine())
    elif given.into:
        paste(markdown(rows), given.into)
    else:
        print(markdown(rows))


if __name__ == "__main__":
    main()
