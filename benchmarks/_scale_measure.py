"""What is measured of the stages for the model of scale: workers at the paper's image size, bytes, and rates.

Seconds are the processor's, of all threads together: other load and waiting for disks are not in them.

python _scale_measure.py STAGE    in a project folder; prints the seconds of its workers as JSON
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import stages
import yaml

from lorweb.data.decode import decode_rgb, encode_png
from lorweb.data.manifest import file_sha256
from lorweb.data.pixels import OUTLINE_CELLS
from lorweb.data.scores import LAYOUT_WIDTH
from lorweb.data.shards import read_index, read_table, write_shards
from lorweb.data.subjects import BLOCK, Place, own_subject
from lorweb.records import PAIR, SOURCE
from pipelines._batches import Batches
from pipelines._journal import Journal
from pipelines._pace import Count
from pipelines._results import read_batch
from pipelines._rows import RowJob, in_process

SIDE: Final = 512  # px, profiles/paper.yaml: collect.size
CROPS: Final = 4  # of each packaged photo
ROUNDS: Final = 3
MAX_PIXELS: Final = 1 << 24
SPATIAL: Final = {"layout": LAYOUT_WIDTH, "outline": OUTLINE_CELLS**2}  # features by which a subject is known
_BLOB: Final = 400_000  # bytes of an image in `rates`
_ROWS: Final = 256


def workers(crops: int = CROPS, side: int = SIDE) -> dict[str, Any]:
    """Seconds and bytes per row of the stages that need no GPU, on real images: the stages themselves, in a loop.

    worker_s: in the worker, by function. png_bytes: of a source and of what an edit made of it. decode_s, encode_s: of
    one PNG. journal_bytes: per row of a scorer.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _project(folder, crops, side)
        told: dict[str, dict[str, float]] = {}
        for stage in ("collect", "generate", "filter"):
            command = [sys.executable, __file__, stage]
            done = subprocess.run(command, cwd=folder, env=stages.environment(), check=True, stdout=subprocess.PIPE)
            told |= json.loads(done.stdout.splitlines()[-1])
        sources = read_table(folder / "data/sources", SOURCE, ["image"])["image"].to_pylist()
        after = read_table(folder / "data/candidates", PAIR, ["after"])["after"].to_pylist()
        images = [decode_rgb(data, MAX_PIXELS) for data in after]
        scored = {path.parent: 0 for path in (folder / ".work/filter").glob("score_*/rows-*.arrow")}
        for path in (folder / ".work/filter").glob("score_*/rows-*.arrow"):
            scored[path.parent] += path.stat().st_size
        return {
            "side": side,
            "functions": told,
            "png_bytes": {"before": _mean(map(len, sources)), "after": _mean(map(len, after))},
            "decode_s": _timed(lambda: [decode_rgb(data, MAX_PIXELS) for data in after]) / len(after),
            "encode_s": _timed(lambda: [encode_png(image) for image in images]) / len(images),
            "journal_bytes": {
                path.name.rpartition("-")[0].removeprefix("score_"): size / len(after) for path, size in scored.items()
            },
        }


def _project(folder: Path, crops: int, side: int) -> None:
    stages.project(folder, 8, stages.PHOTOS * crops)
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["collect"]["size"] = side
    params["generate"]["sources_per_task"] = 1
    params["generate"]["editors"][0]["tasks"] = [
        "colour/*",
        "geometry/*",
    ]  # of the embedded editor at the paper's scale
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def run_stage(stage: str) -> dict[str, dict[str, float]]:
    """Run a stage here, in the project folder; the processor's seconds per row of each of its functions."""
    import importlib

    told: dict[str, dict[str, float]] = {}

    def execute(job: RowJob, batches: Batches) -> Iterator[Count]:
        counts = in_process(job, batches)  # the worker is made here
        name = job.function.rpartition("_")[0] if stage == "generate" else job.function  # less the entry's hash
        begun, rows = time.process_time(), 0
        for count in counts:
            rows += count["kept"] + count["refused"]
            told[f"{stage} {name}"] = {"rows": rows, "worker_s": (time.process_time() - begun) / rows}
            yield count

    importlib.import_module(f"pipelines.{stage}").main(execute)
    return told


def rates(rows: int = _ROWS) -> dict[str, float]:
    """Seconds per byte of what the driver does with whole files, in memory's cache: so the processor's share of it.

    publish: journal to shards; sha256: of finished shards, for the manifest; digest: reading shards for their index and
    the hashes of their images; md5: DVC's, on one thread.
    """
    with tempfile.TemporaryDirectory() as place:
        folder, schema = Path(place), pa.schema([SOURCE.field("id"), PAIR.field("before"), PAIR.field("after")])
        journal = Journal("scale", "rates", schema)
        journal.folder = folder / "journal"
        journal.folder.mkdir()
        blob = os.urandom(_BLOB)
        paths = []
        for start in range(0, rows, 8):
            ids = [f"r{row:08d}" for row in range(start, start + 8)]
            images = {name: [blob[i:] + blob[:i] for i in range(8)] for name in ("before", "after")}
            table = pa.table({"key": ids, "refused": [None] * 8, "id": ids, **images}, schema=journal.schema)
            paths.append(journal.path(ids[0]))
            journal.write(paths[-1], table)
        size = 2 * _BLOB * rows

        def tables() -> Iterator[pa.Table]:
            return (read_batch(path).select(schema.names) for path in paths)

        found = {"publish": _timed(lambda: write_shards(tables(), folder / "out", schema))}
        shards = sorted((folder / "out").glob("*.parquet"))
        found["sha256"] = _timed(lambda: [file_sha256(path) for path in shards])
        found["digest"] = _timed(lambda: read_index(folder / "out", schema, ["id"], digests=["before", "after"]))
        found["md5"] = _timed(lambda: [_md5(path) for path in shards])
    return {name: seconds / size for name, seconds in found.items()}


def pairs_of_a_task(pairs: int = 3 * BLOCK) -> dict[str, float]:
    """What the filter's `subject` takes for the pairs of one task: it compares each with each, a block at a time.

    Seconds over the square of the pairs; bytes, all that numpy holds at once, over the pairs.
    """
    rng = np.random.default_rng(0)
    names = [f"p{number:06d}" for number in range(pairs)]
    places = {name: Place("task", name) for name in names}
    vectors = {kind: rng.standard_normal((2, pairs, size), np.float32) for kind, size in SPATIAL.items()}
    spatial = {kind: lambda own=own: zip(names, *own, strict=True) for kind, own in vectors.items()}
    tracemalloc.start()
    own_subject(spatial, places, set(names))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = _timed(lambda: own_subject(spatial, places, set(names)))
    return {"bytes": peak / pairs, "seconds": seconds / pairs**2}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def kept(root: Path) -> dict[str, float]:
    """Share of the embedded editor's pairs that the filter kept in the run whose metrics are committed, and how many
    were asked.
    """
    told = json.loads((root / "metrics" / "filter.json").read_text(encoding="utf-8"))
    return {"kept": told["kept"] / told["rows_in"], "pairs": told["rows_in"]}


def _timed(call: Callable[[], object]) -> float:
    """The processor's seconds, the least of some rounds."""
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return min(found)


def _mean(values: Any) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


if __name__ == "__main__":
    print(json.dumps(run_stage(sys.argv[1])))
