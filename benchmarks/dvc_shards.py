"""What the number of files costs DVC: the same bytes in one file, in shards, and in a file for each image.

python benchmarks/dvc_shards.py [--megabytes 128] [--files 1 4 64 1024 8192] [--rounds 3] [--quick] [--json FILE]
                                [--into FILE]

Every command is a process of its own, as for a user, on a folder of random bytes: `dvc add`, `dvc push` to a folder,
`dvc status` with nothing changed, `dvc checkout` into an empty workspace, `dvc fetch` into an empty cache; `update` is
`dvc add` and `dvc push` again after one byte has changed, and `sent` what that adds to the remote. In a round all
numbers of files have their turn, each round beginning with another one. About half a second of each is DVC's start.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import _report
import numpy as np
from _measure import Claim, compare
from _table import publish

MARKS: Final = ("<!-- dvc_shards -->", "<!-- /dvc_shards -->")
OPERATIONS: Final = ("add", "push", "status", "checkout", "fetch", "update")
Spent = dict[str, dict[str, list[float]]]  # operation -> contestant -> seconds of each round


def dvc(folder: Path, *words: str) -> float:
    """Seconds of a command."""
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *words, "--quiet"]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return time.perf_counter() - start


def fill(folder: Path, files: int, size: int) -> None:
    """`size` random bytes in all, evenly."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(files)
    for number in range(files):
        (folder / f"part-{number:05d}.parquet").write_bytes(draw.bytes(size // files))


def one_turn(place: Path, files: int, size: int) -> tuple[dict[str, float], int]:
    """Seconds of each operation on a new project, and bytes that an update sends."""
    project, store, data = place / "project", place / "store", place / "project" / "data"
    fill(data, files, size)
    dvc(project, "init", "--no-scm")
    dvc(project, "remote", "add", "--default", "store", str(store))
    spent = {"add": dvc(project, "add", "data"), "push": dvc(project, "push"), "status": dvc(project, "status")}
    shutil.rmtree(data)
    spent["checkout"] = dvc(project, "checkout")
    shutil.rmtree(project / ".dvc" / "cache")
    spent["fetch"] = dvc(project, "fetch")
    before = held(store)
    changed = data / "part-00000.parquet"
    content = bytearray(changed.read_bytes())
    content[0] ^= 1
    changed.unlink()
    changed.write_bytes(content)
    spent["update"] = dvc(project, "add", "data") + dvc(project, "push")
    sent = held(store) - before
    shutil.rmtree(place)
    return spent, sent


def held(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(place: Path, counts: list[int], size: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each operation and number of files, against the least number."""
    spent: Spent = defaultdict(lambda: defaultdict(list))
    sent: dict[int, int] = {}
    for number in range(rounds):
        for files in counts[number % len(counts) :] + counts[: number % len(counts)]:
            seconds, sent[files] = one_turn(place / f"{number}-{files}", files, size)
            for operation, value in seconds.items():
                spent[operation][named(files)].append(value)
            print(
                f"round {number + 1}, {named(files)}: " + ", ".join(f"{k} {v:.2f} s" for k, v in seconds.items()),
                flush=True,
            )
    least = named(min(counts))
    rows = []
    for operation in OPERATIONS:
        for files in counts:
            row = compare(spent[operation], Claim(f"dvc {operation}, {named(files)}", named(files), least, None))
            rows.append({**row, "operation": operation, "files": files, "bytes": size, "sent": sent[files]})
    return rows


def named(files: int) -> str:
    """A contestant's name."""
    return f"{files} file{'s' if files > 1 else ''}"


def markdown(rows: list[dict[str, Any]]) -> str:
    """Seconds by operation and number of files, with the ratio to the least number."""
    lines = [
        "| files | of | " + " | ".join(OPERATIONS) + " | sent by an update |",
        "|---" * (len(OPERATIONS) + 3) + "|",
    ]
    for files in dict.fromkeys(row["files"] for row in rows):
        found = {row["operation"]: row for row in rows if row["files"] == files}
        first = found["add"]
        cells = [f"{found[name]['ms'] / 1e3:.1f} s (×{found[name]['ratio']:.1f})" for name in OPERATIONS]
        each = f"{first['bytes'] / files / 2**20:.3g} MiB"
        lines.append(f"| {files} | {each} | {' | '.join(cells)} | {first['sent'] / 2**20:.2f} MiB |")
    return "\n".join(
        [*lines, "", *(f"- `{c}` on {m}" for c, m in dict.fromkeys((r["command"], r["machine"]) for r in rows))]
    )


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--megabytes", type=int, default=128)
    options.add_argument("--files", type=int, nargs="+", default=[1, 4, 64, 1024, 8192])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="few bytes, one round: half a minute")
    options.add_argument("--json", type=Path, help="write the results there")
    options.add_argument("--into", type=Path, help=f"a Markdown file with {' and '.join(MARKS)}, for the table")
    given = options.parse_args(argv)
    if given.quick:
        given.megabytes, given.files, given.rounds = 8, [1, 16, 256], 1
    with tempfile.TemporaryDirectory() as place:
        rows = measure(Path(place), sorted(given.files), given.megabytes << 20, given.rounds)
    command = f"python benchmarks/dvc_shards.py --megabytes {given.megabytes} --rounds {given.rounds}"
    machine = _report.machine()
    rows = [
        {**row, "machine": machine, "command": f"{command} --files {' '.join(map(str, given.files))}"} for row in rows
    ]
    publish(rows, markdown(rows), given, MARKS)


if __name__ == "__main__":
    main()
