"""How well the filter tells bad pairs from good ones, on known truth: planted among the candidates of a run.

python benchmarks/filter_quality.py [--candidates data/candidates] [--per-kind 200] [--work FOLDER] [--json FILE]

Bad pairs of five kinds (lorweb/data/plants.py) take the places of good ones, the filter stage runs as it is with the
project's parameters, and its rejects are compared with what was planted. Recall is the share of a kind that was
refused; precision the share of bad ones among all that were refused, were this kind the only one that was planted: at
200 among some 3,300 good ones, half a per cent of those costs 0.08 of precision. Candidates that their editor has left
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

from lorweb.data.decide import PairPlace
from lorweb.data.decode import decode_rgb, encode_png
from lorweb.data.manifest import Manifest, write_manifest
from lorweb.data.plants import KINDS, NOISE, plan_plants, plant
from lorweb.data.shards import RowReader, iter_tables, read_index, read_table, write_shards
from lorweb.data.tasks import TASKS
from lorweb.records import PAIR, REJECT

PLACE = ("task", "edit_type", "source_id", "subject")
MOST_PIXELS = 1 << 28


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
    """Precision and recall of each kind, and which checks caught it."""
    rejects = {row["id"]: row["check"] for row in read_table(pairs / "rejects", REJECT).to_pylist()}
    good = [name for name in rejects if name not in planted]
    total = read_table(pairs, PAIR, ["id"]).num_rows + len(rejects) - len(planted)
    rows = []
    for kind in KINDS:
        own = [name for name, what in planted.items() if what == kind]
        caught = [name for name in own if name in rejects]
        rows.append(
            {
                "name": kind,
                "planted": len(own),
                "recall": len(caught) / len(own),
                "precision": len(caught) / max(1, len(caught) + len(good)),
                "checks": dict(Counter(rejects[name] for name in caught).most_common()),
            }
        )
    lost = dict(Counter(rejects[name] for name in good).most_common())
    rows.append({"name": "good pairs refused", "planted": total, "recall": len(good) / total, "checks": lost})
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--candidates", type=Path, default=Path("data/candidates"))
    options.add_argument("--per-kind", type=int, default=200)
    options.add_argument("--work", type=Path, default=Path(".work/filter_quality"))
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    (given.work / "data").mkdir(parents=True, exist_ok=True)
    planted = plant_candidates(given.candidates, given.work / "data" / "candidates", given.per_kind)
    labels = [{"id": name, "kind": kind} for name, kind in sorted(planted.items())]
    (given.work / "planted.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile("params.yaml", given.work / "params.yaml")
    target = given.json.resolve() if given.json else None
    os.chdir(given.work)
    from pipelines import filter as stage

    stage.main()
    rows = measure(planted, Path("data/pairs"))
    print(_report.machine())
    for row in rows:
        precision = f"precision {row['precision']:.3f}, " if "precision" in row else ""
        print(
            f"{row['name']:<20} {precision}{'recall' if precision else 'share'} {row['recall']:.3f} of {row['planted']}"
        )
        print(f"{'':<20} {', '.join(f'{check} {number}' for check, number in row['checks'].items())}")
    if target:
        command = f"python benchmarks/filter_quality.py --per-kind {given.per_kind}"
        told = [{**row, "machine": _report.machine(), "command": command} for row in rows]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
