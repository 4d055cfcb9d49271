"""How well the filter tells bad pairs from good ones, on known truth: planted among the candidates of a run.

python benchmarks/filter_quality.py [--candidates data/candidates] [--per-kind 200] [--json FILE] [--into FILE]

Bad pairs of five kinds (lorweb/data/plants.py) take the places of good ones, the filter stage runs as it is with the
project's parameters, and its rejects are compared with what was planted. Recall is the share of a kind that was
refused; precision the share of bad ones among all that were refused, were this kind the only one that was planted: at
200 among some 3,300 good ones, half a per cent of those costs 0.08 of precision. The precision of a check is the share
of bad ones, of any kind, among the pairs that it was the first to refuse. Candidates that their editor has left
as they were, within the noise of a codec, are no-ops by themselves and are counted as such.
"""

import argparse
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import _report
import numpy as np
from _table import publish
from scipy.stats import binomtest

from lorweb.data.decide import PairPlace
from lorweb.data.decode import decode_rgb, encode_png
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.plants import KINDS, NOISE, plan_plants, plant
from lorweb.data.shards import RowReader, iter_tables, read_index, read_table, write_shards
from lorweb.data.tasks import TASKS
from lorweb.records import PAIR, REJECT

PLACE = ("task", "edit_type", "source_id", "subject")
MOST_PIXELS = 1 << 28
MARKS = ("<!-- filter -->", "<!-- /filter -->")


def plant_candidates(candidates: Path, out: Path, per_kind: int) -> dict[str, str]:
    """The candidates with bad pairs among them in `out`; returns {pair id: kind}."""
    index = {row["id"]: row for row in read_index(candidates, PAIR, ["id", *PLACE])}
    places = {name: PairPlace(*(row[key] for key in PLACE)) for name, row in index.items()}
    rows = RowReader(candidates, PAIR, ["before", "after"])
    plants = plan_plants(places, per_kind, seed=0)

    def images(name: str) -> Any:
        row = rows(index[name]["at"])
        return decode_rgb(row["before"], MOST_PIXELS), decode_rgb(row["after"], MOST_PIXELS)

    taken = {what.pair for what in plants}
    untouched = {name: "no_op" for name in index if name not in taken and same(images(name))}
    bad = {what.pair: tuple(encode_png(image) for image in plant(what, images, seed=0)) for what in plants}

    def tables() -> Any:
        for table in iter_tables(candidates, PAIR):
            found = table.to_pylist()
            for row in found:
                row["before"], row["after"] = bad.get(row["id"], (row["before"], row["after"]))
            yield type(table).from_pylist(found, PAIR)

    count = write_shards(tables(), out, PAIR)
    shutil.copyfile(candidates / TASKS, out / TASKS)
    write_manifest(out, Manifest(count, {}, {"planted": per_kind}, {}))
    return untouched | {what.pair: what.kind for what in plants}


def same(pair: Any) -> bool:
    """No pixel of a' differs from a by more than the noise of a planted no-op."""
    before, after = (np.asarray(image, np.int16) for image in pair)
    return before.shape == after.shape and int(np.abs(after - before).max()) <= NOISE


def measure(planted: dict[str, str], pairs: Path) -> list[dict[str, Any]]:
    """Recall and precision of each kind, and the share of good pairs that is lost; `checks` says what refused them."""
    rejects = {row["id"]: row["check"] for row in read_table(pairs / "rejects", REJECT).to_pylist()}
    lost = [name for name in rejects if name not in planted]
    good = read_table(pairs, PAIR, ["id"]).num_rows + len(rejects) - len(planted)
    caught = [name for name in planted if name in rejects]
    rows = [
        row("good pairs refused", len(lost), good, 0.05, [rejects[name] for name in lost]),
        row("all kinds: recall", len(caught), len(planted), 0.95, []),
        row("all kinds: precision", len(caught), len(rejects), 0.9, []),
    ]
    for kind in KINDS:
        own = [name for name, what in planted.items() if what == kind]
        caught = [name for name in own if name in rejects]
        rows.append(row(f"{kind}: recall", len(caught), len(own), 0.95, [rejects[name] for name in caught]))
        rows.append(row(f"{kind}: precision", len(caught), len(caught) + len(lost), 0.9, []))
    for check, number in Counter(rejects.values()).most_common():
        bad = [planted[name] for name, why in rejects.items() if why == check and name in planted]
        rows.append(row(f"check {check}: precision", len(bad), number, 0.9, bad))
    return rows


def row(name: str, hits: int, count: int, target: float, checks: list[str]) -> dict[str, Any]:
    """A share with its Wilson interval (95 %). A target is a floor, but for what is lost, where it is a ceiling."""
    share = hits / max(1, count)
    interval = binomtest(hits, max(1, count)).proportion_ci(method="wilson")
    met = share <= target if name.endswith("refused") else share >= target
    return {
        "name": name,
        "rival": "known truth",
        "ratio": share,
        "low": float(min(interval.low, share)),
        "high": float(max(interval.high, share)),
        "target": target,
        "met": met,
        "unit": "share",
        "n": count,
        "checks": dict(Counter(checks).most_common()),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, with the command and the machine that gave them."""
    lines = ["| what | share | 95 % interval | target | met | n | refused by, or of kind |", "|---" * 7 + "|"]
    for found in rows:
        sign, met = ("≤" if found["name"].endswith("refused") else "≥"), "yes" if found["met"] else "**no**"
        checks = ", ".join(f"{check} {number}" for check, number in found["checks"].items())
        interval = f"{found['low']:.3f} – {found['high']:.3f}"
        cells = (
            found["name"],
            f"{found['ratio']:.3f}",
            interval,
            f"{sign} {found['target']:g}",
            met,
            found["n"],
            checks,
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", f"Measured by `{rows[0]['command']}` on {rows[0]['machine']}"])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--candidates", type=Path, default=Path("data/candidates"))
    options.add_argument("--per-kind", type=int, default=200)
    options.add_argument("--work", type=Path, default=Path(".work/filter_quality"))
    options.add_argument("--json", type=Path, help="write the results there")
    options.add_argument("--into", type=Path, help="a Markdown file with the marks, for the table")
    given = options.parse_args()
    (given.work / "data").mkdir(parents=True, exist_ok=True)
    planted = plant_candidates(given.candidates, given.work / "data" / "candidates", given.per_kind)
    labels = [{"id": name, "kind": kind} for name, kind in sorted(planted.items())]
    (given.work / "planted.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile("params.yaml", given.work / "params.yaml")
    given.json, given.into = (path and path.resolve() for path in (given.json, given.into))  # the stage runs elsewhere
    os.chdir(given.work)
    from pipelines import filter as stage

    stage.main()
    command = f"python benchmarks/filter_quality.py --per-kind {given.per_kind}"
    machine = _report.machine()
    rows = [{**found, "machine": machine, "command": command} for found in measure(planted, Path("data/pairs"))]
    publish(rows, markdown(rows), given, MARKS)


if __name__ == "__main__":
    main()
