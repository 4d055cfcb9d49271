"""What a stage costs its driver: the real stage with workers that answer from a table, so that nothing else is left.

python _scale_driver.py STAGE    in a project folder; prints the processor's seconds, rows and peak bytes as JSON

Answers are of the true schemas, their images tiny: what grows with bytes is measured apart (_scale_measure.rates).
"""

import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import stages
import yaml
from PIL import Image

from lorweb.data.shards import write_rows
from lorweb.records import SOURCE, pack_features, stable_id
from pipelines._batches import Batches
from pipelines._journal import Journal
from pipelines._pace import Count
from pipelines._rows import Item, RowJob, in_process

TASKS: Final = ("colour/*", "geometry/*", "style/*", "weather/*", "object/*")  # what photos are edited by: many tasks
STAGES: Final = ("generate", "filter", "assemble", "encode")
TRIES: Final = 3  # of each size
SIDE: Final = 8  # px
VECTOR: Final = 768  # features of an encoder


class Canned:
    """Rows of the job's schema, made from the item alone."""

    def __init__(self, job: RowJob) -> None:
        self.job = job

    def __call__(self, items: list[Item]) -> list[dict[str, Any]]:
        return [{field.name: self._value(field.name, item) for field in self.job.schema} for item in items]

    def _value(self, name: str, item: Item) -> Any:
        if name in ("before", "after"):
            return png(item["source_id"] if name == "before" else item["id"])
        if name in FIXED:
            return FIXED[name]
        if name == "scores":
            keys = self.job.arguments[2].keys if self.job.stage == "filter" else ()
            return json.dumps({key: random.Random(item["id"] + key).random() for key in keys})
        if name == "hashes":
            return json.dumps({side: stable_id(item["id"], side) for side in ("before", "after")})
        if name == "tensors" or "." in name:
            return vector(item["id"])
        return item.get({"image": "id"}.get(name, name), item.get("text", name))


FIXED: Final = {"notes": "{}", "lacks": "null", "edit_type": "colour"}


def vector(name: str) -> bytes:
    """Features as they are stored, that only this name has."""
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest() * (VECTOR // 32), np.uint8)
    return pack_features(digest.astype(np.float32) / 128 - 1)


def png(name: str) -> bytes:
    """A small picture that only this name has."""
    file = io.BytesIO()
    colours = hashlib.sha256(name.encode()).digest() * (3 * SIDE * SIDE // 32)
    Image.frombytes("RGB", (SIDE, SIDE), colours).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class CannedJob(RowJob):
    """A job by the table, whose answers go to the journal of the true one."""

    of: RowJob | None = None

    @property
    def journal(self) -> Journal:
        assert self.of is not None
        return self.of.journal


def canned(job: RowJob, batches: Batches) -> Iterator[Count]:
    """An executor: every batch in this process, by the table."""
    own = {field.name: getattr(job, field.name) for field in fields(job)}
    return in_process(CannedJob(**{**own, "worker": Canned, "arguments": (job,)}, of=job), batches)


def measure(stage: str) -> dict[str, Any]:
    """Run a stage here. The workers' seconds are told apart.

    Peak memory is that of the process, libraries included, without pages of mapped files: those can be dropped.
    """
    import importlib

    busy: list[float] = []
    own_memory = [0]
    threading.Thread(target=_watch, args=(own_memory,), daemon=True).start()

    def execute(job: RowJob, batches: Batches) -> Iterator[Count]:
        counts = canned(job, batches)
        begun = time.process_time()
        for count in counts:
            busy.append(time.process_time() - begun)
            yield count
            begun = time.process_time()

    module = importlib.import_module(f"pipelines.{stage}")
    begun = time.process_time()
    module.main() if stage == "assemble" else module.main(execute)
    seconds = time.process_time() - begun
    told = json.loads(Path(f"metrics/{stage}.json").read_text(encoding="utf-8"))
    return {"seconds": seconds, "busy": sum(busy), "rows": told["rows_in"], "peak_bytes": max(own_memory)}


def _watch(seen: list[int]) -> None:
    """Keep the largest size of this process's own memory in `seen`, in bytes; the kernel keeps no peak of that part."""
    while True:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        seen[0] = max(seen[0], int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) << 10)
        time.sleep(0.02)


def project(folder: Path, pairs: int) -> None:
    """Parameters and sources for `pairs` candidates; the filter measures by two scorers and refuses nothing."""
    from lorweb.data.catalogue import load_catalogue

    tasks = sum(any(fnmatchcase(task.id, pattern) for pattern in TASKS) for task in load_catalogue().tasks)
    stages.project(folder, pairs, pairs // tasks)
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["generate"]["editors"][0]["tasks"] = list(TASKS)
    params["generate"]["sources_per_task"] = pairs // tasks
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    rows = []
    for number in range(pairs // tasks):
        name = stable_id("source", number)
        image = png(name)
        same = {"subject": f"s{number}", "category": "photo", "caption": "a picture", "licence": "CC0-1.0"}
        size = {"width": SIDE, "height": SIDE, "origin": f"scale:{number}"}
        rows.append({"id": name, "image": image, "sha256": hashlib.sha256(image).hexdigest(), **same, **size})
    write_rows(rows, folder / "data/sources", SOURCE)
    manifest = {"schema_version": 1, "rows": len(rows), "inputs": {}, "params": {}, "code": {}, "files": {}}
    (folder / "data/sources/_manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def slopes(sizes: tuple[int, int, int]) -> dict[str, dict[str, float]]:
    """Per stage: what a further row costs the driver in seconds and in bytes of memory, between the two larger sizes.

    growth_s, growth_bytes: over what it costs between the two smaller ones; 1 is linear. Of each size and stage the
    least of several runs counts: a machine with more to do only adds.
    """
    runs: dict[str, list[dict[str, Any]]] = {stage: [] for stage in STAGES}
    for size in sizes:
        tries = [_through(size) for _ in range(TRIES)]
        for stage in STAGES:
            told = [one[stage] for one in tries]
            least = {name: min(one[name] for one in told) for name in ("driver", "peak_bytes")}
            runs[stage].append({"rows": told[0]["rows"], **least})
            print(stage, runs[stage][-1], "of", [round(one["driver"], 3) for one in told], flush=True)
    return {stage: _slope(*own) for stage, own in runs.items()}


def _through(size: int) -> dict[str, dict[str, Any]]:
    """All stages on a project of so many candidates, each in a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        project(Path(place), size)
        for stage in STAGES:
            command = [sys.executable, __file__, stage]
            done = subprocess.run(command, cwd=place, env=stages.environment(), check=True, stdout=subprocess.PIPE)
            told = json.loads(done.stdout.splitlines()[-1])
            found[stage] = {**told, "driver": told["seconds"] - told["busy"]}
    return found


def _slope(small: dict[str, Any], middle: dict[str, Any], large: dict[str, Any]) -> dict[str, float]:
    def per_row(a: dict[str, Any], b: dict[str, Any]) -> tuple[float, float]:
        rows = b["rows"] - a["rows"]
        return (b["driver"] - a["driver"]) / rows, (b["peak_bytes"] - a["peak_bytes"]) / rows

    (low_s, low_bytes), (row_s, row_bytes) = per_row(small, middle), per_row(middle, large)
    growth = {"growth_s": row_s / max(low_s, 1e-9), "growth_bytes": row_bytes / max(low_bytes, 1e-9)}
    return {"row_s": row_s, "row_bytes": row_bytes, **growth, "from_rows": middle["rows"], "rows": large["rows"]}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
