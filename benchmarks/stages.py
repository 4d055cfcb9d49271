"""What Ray costs the data stages: each row function on Ray's actors against a plain loop over the same batches.

python benchmarks/stages.py [--rows 10000] [--stages collect generate filter encode] [--sizes 1000 10000 100000]
                            [--quick] [--json FILE] [--into FILE]

Both sides write the same journal and the same output. One actor stands against one process, each computing on one
thread; rates count from the first batch, since actors load their networks before (the seconds of that are in
`metrics/<stage>.json` as `start_s`). `--sizes` measures how time and the driver's memory grow with the rows of
`generate` (pixel edits of small images) on Ray.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _report
import yaml
from _table import publish

ROOT = Path(__file__).parents[1]
MARKS = ("<!-- stages -->", "<!-- /stages -->")
PHOTOS = 13  # that the packages carry; up to 1,000 crops of each
NETWORKS = 8  # of as many rows filter and encode work one: networks look at their images
ORDER = ("collect", "generate", "filter", "assemble", "encode")
TASKS = [
    *(f"colour/{name}" for name in ("sepia", "grey", "invert", "tint-red", "tint-blue")),
    *(f"geometry/{name}" for name in ("mirror", "upside-down", "mirror-top")),
]
TARGET = 0.85
CODE = (
    "import sys, json; from pathlib import Path; import importlib; stage, how = sys.argv[1:];"
    "from pipelines._rows import in_process; module = importlib.import_module(f'pipelines.{stage}');"
    "module.main(in_process) if how == 'loop' and stage != 'assemble' else module.main()"
)


def project(folder: Path, rows: int, sources: int) -> None:
    """Parameters for about `sources` small crops of photos, and `rows` pairs of them by edits of pixels."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    pool = {"actors": 1, "cpus": 0.5, "gpus": 0, "batch_size": 32}
    readers = [{"reader": "photos", "crops": -(-sources // PHOTOS)}]
    params["collect"] |= {"size": 64, "readers": readers, "pool": pool}
    params["generate"] |= {
        "editors": [{"editor": "embedded", "tasks": TASKS, "pool": pool}],
        "sources_per_task": -(-rows // len(TASKS)),
    }
    for scorer in params["filter"]["scorers"]:
        scorer["pool"] = pool
    params["filter"] |= {
        "max_error_rate": 1.0,
        "checks": [{"score": "change", "min": 0, "max": None, "edit_types": []}],
    }
    params["encode"]["pool"] = pool
    params["assemble"] |= {"train_subjects": [], "max_pairs_per_task": rows, "max_pairs_per_source": rows}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def environment() -> dict[str, str]:
    """Of a stage's process: this project's code, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(stage: str, how: str, folder: Path) -> dict[str, Any]:
    """Run a stage from nothing, "ray" or "loop"; returns what its function of most rows told of itself."""
    shutil.rmtree(folder / ".work" / stage, ignore_errors=True)
    subprocess.run([sys.executable, "-c", CODE, stage, how], cwd=folder, env=environment(), check=True)
    told = json.loads((folder / "metrics" / f"{stage}.json").read_text(encoding="utf-8"))
    functions: list[dict[str, Any]] = list(told.get("functions", {}).values())
    return {**max(functions, key=lambda own: own["rows"], default={}), "seconds": told["seconds"]}


def compare(stage: str, folder: Path, rounds: int) -> dict[str, Any]:
    """A row: rate on Ray over the rate of the loop, rounds interleaved; the median and its spread."""
    pairs = []
    for number in range(rounds):
        order = ("ray", "loop") if number % 2 == 0 else ("loop", "ray")
        pairs.append({how: run(stage, how, folder) for how in order})
    ratios = sorted(pair["ray"]["rows_per_s"] / pair["loop"]["rows_per_s"] for pair in pairs)
    middle = ratios[len(ratios) // 2]
    one = pairs[0]
    name = f"{stage}, {one['ray']['rows']} rows"
    return {
        "name": name,
        "rival": "plain loop",
        "ratio": middle,
        "low": ratios[0],
        "high": ratios[-1],
        "target": TARGET,
        "met": middle >= TARGET,
        "unit": "rows/s, Ray / plain loop",
        "n": rounds,
        "rows_per_s": one["ray"]["rows_per_s"],
        "rival_rows_per_s": one["loop"]["rows_per_s"],
        "driver_megabytes": one["ray"]["driver_megabytes"],
        "worker_megabytes": one["ray"]["worker_megabytes"],
    }


def growth(size: int, folder: Path) -> dict[str, Any]:
    """A row: `generate` of `size` rows on Ray, its seconds per row and the driver's peak memory."""
    project(folder, size, -(-size // len(TASKS)))
    run("collect", "loop", folder)
    told = run("generate", "ray", folder)
    return {
        "name": f"generate, {told['rows']} rows",
        "rival": "itself",
        "ratio": told["seconds"] / told["rows"],
        "target": None,
        "met": None,
        "unit": "seconds per row, start included",
        "n": 1,
        "rows_per_s": told["rows_per_s"],
        "driver_megabytes": told["driver_megabytes"],
        "worker_megabytes": told["worker_megabytes"],
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as two tables, with the command and the machine that gave them."""
    lines = ["| stage | Ray / plain loop | spread | target | met | rows/s | n |", "|---" * 7 + "|"]
    for row in (row for row in rows if row["rival"] == "plain loop"):
        met = "yes" if row["met"] else "**no**"
        spread = f"{row['low']:.2f} – {row['high']:.2f}"
        cells = (
            row["name"],
            f"{row['ratio']:.2f}",
            spread,
            f"≥ {row['target']:g}",
            met,
            f"{row['rows_per_s']:.1f}",
            row["n"],
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    grown = [row for row in rows if row["rival"] == "itself"]
    if grown:
        lines += ["", "| stage | ms per row, start included | rows/s | driver, MB | worker, MB |", "|---" * 5 + "|"]
        for row in grown:
            memory = f"{row['driver_megabytes']} | {row['worker_megabytes']}"
            lines.append(f"| {row['name']} | {1000 * row['ratio']:.1f} | {row['rows_per_s']:.1f} | {memory} |")
    commands = " and ".join(dict.fromkeys(f"`{row['command']}`" for row in rows))
    return "\n".join([*lines, "", f"Measured by {commands} on {rows[0]['machine']}"])


def command_of(row: dict[str, Any], given: argparse.Namespace) -> str:
    """What makes the table of a row again, and nothing else."""
    if row["rival"] == "itself":
        options = f"--stages --sizes {' '.join(map(str, given.sizes))}"
    else:
        options = f"--stages {' '.join(given.stages)} --rows {given.rows} --rounds {given.rounds} --sizes"
    return f"python benchmarks/stages.py {options}"


def main(argv: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--stages", nargs="*", default=["collect", "generate", "filter", "encode"])
    options.add_argument("--sizes", nargs="*", type=int, default=[1_000, 10_000, 100_000])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="few rows, one round: a few minutes")
    options.add_argument("--json", type=Path, help="write the results there")
    options.add_argument("--into", type=Path, help="a Markdown file with the marks, for the tables")
    given = options.parse_args(argv)
    if given.quick:
        given.rows, given.sizes, given.rounds = 400, [200, 800], 1
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for stage in given.stages:
            folder = Path(place) / stage
            pairs = given.rows if stage in ("collect", "generate") else max(40, given.rows // NETWORKS)
            project(folder, pairs, given.rows if stage == "collect" else -(-pairs // len(TASKS)))
            for before in ORDER[: ORDER.index(stage)]:
                run(before, "loop", folder)
            rows.append(compare(stage, folder, given.rounds))
            print(rows[-1], flush=True)
        for size in given.sizes:
            rows.append(growth(size, Path(place) / f"size{size}"))
            print(rows[-1], flush=True)
    machine = _report.machine()
    rows = [{**row, "machine": machine, "command": command_of(row, given)} for row in rows]
    publish(rows, markdown(rows), given, MARKS)


if __name__ == "__main__":
    main()
