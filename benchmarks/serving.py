"""A served model under load: `mlflow models serve` on loopback, good and bad requests from several clients at once.

    python benchmarks/serving.py [--requests 200] [--clients 8] [--model FOLDER] [--quick] [--json FILE] [--into FILE]

The rival is the same pipeline in this process, called in a plain loop on images that are decoded already. In each round
the loop draws what the good requests of the round ask for, then the server answers the round; so that every answer is
also compared with the one of the loop. Memory is the resident set of the server's process.
"""

import base64
import io
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _report import Row, machine, parser, sourced, start
from _server import Asked, Reply, make_model, mixed, send, served
from _table import publish
from PIL import Image

MARKS = ("<!-- serving -->", "<!-- /serving -->")
BAD = 0.3  # share of the requests
SIDE = 96  # px of the images sent
THROUGHPUT = 0.8  # least rate of the server beside the plain loop
GROWTH = 1.03  # most memory at the end beside that at half of the requests
CLOSE = 1  # of 255: two processes may differ in the last bit of a float


@dataclass
class Load:
    """What was seen over all rounds."""

    ratios: list[float] = field(default_factory=list)
    served_per_s: list[float] = field(default_factory=list)
    loop_per_s: list[float] = field(default_factory=list)
    good_ms: list[float] = field(default_factory=list)
    bad_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    megabytes: list[float] = field(default_factory=list)  # before the first round, and after each
    answers: int = 0
    faults: list[str] = field(default_factory=list)


def drawn(pipe: Any, asked: Sequence[Asked]) -> tuple[list[np.ndarray], float]:
    """(images of the good requests, images per second) of the plain loop."""
    rows = [one.row for one in asked if one.row is not None]
    decoded = [[Image.open(io.BytesIO(base64.b64decode(row[name]))) for name in ("a", "a2", "b")] for row in rows]
    begun = time.perf_counter()
    images = [
        pipe(*three, seed=row["seed"], strength=row["strength"]).images[0]
        for three, row in zip(decoded, rows, strict=True)
    ]
    rate = len(rows) / (time.perf_counter() - begun)
    return [np.asarray(image).astype(int) for image in images], rate


def attack(load: Load, port: int, asked: Sequence[Asked], expected: Sequence[np.ndarray], clients: int) -> float:
    """Send a round; returns good answers per second."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(lambda one: send(port, one), asked))
    spent = time.perf_counter() - begun
    images = iter(expected)
    for one, reply in zip(asked, replies, strict=True):
        load.statuses[reply.status] += 1
        (load.good_ms if one.row else load.bad_ms).append(reply.seconds * 1e3)
        fault = judged(one, reply, next(images) if one.row else None)
        load.faults += [fault] if fault else []
    load.answers += len(asked)
    return len(expected) / spent


def judged(asked: Asked, reply: Reply, expected: np.ndarray | None) -> str | None:
    """What is wrong with a reply, or None."""
    if reply.status != asked.status:
        return f"status {reply.status} in the place of {asked.status}: {reply.body[:200]!r}"
    if expected is None:
        traced = b"Traceback" in reply.body
        return "a traceback" if traced else None if reply.sentence or reply.status == 415 else "no sentence"
    image = reply.image()
    far = image.shape != expected.shape or int(np.abs(image - expected).max()) > CLOSE
    return "another image than the loop's" if far else None


def check_distinct(images: Sequence[np.ndarray]) -> None:
    """A swapped answer could not be seen if two were alike. Raises RuntimeError."""
    for index, image in enumerate(images[1:], start=1):
        if min(int(np.abs(image - other).max()) for other in images[:index]) <= 2 * CLOSE:
            raise RuntimeError(f"answer {index} is like another one, so that swapped answers would not show")


def measure(model: Path, root: Path, requests: Sequence[Asked], rounds: int, clients: int) -> Load:
    """All rounds against one server."""
    from lorweb.kontext.pipeline import AnalogyPipeline

    pipe, load = AnalogyPipeline.from_pretrained(model), Load()
    pipe.set_progress_bar_config(disable=True)
    parts = [list(requests[index::rounds]) for index in range(rounds)]
    drawn(pipe, [one for one in parts[0] if one.row][:2])  # warm
    every: list[np.ndarray] = []
    with served(model, root) as (port, server):
        load.megabytes.append(server.memory_info().rss / 1e6)
        for part in parts:
            expected, rate = drawn(pipe, part)
            answered = attack(load, port, part, expected, clients)
            load.loop_per_s.append(rate)
            load.served_per_s.append(answered)
            load.ratios.append(answered / rate)
            load.megabytes.append(server.memory_info().rss / 1e6)
            every += expected
            print(f"{answered:.2f} images/s served, {rate:.2f} in the loop, {load.megabytes[-1]:.0f} MB", flush=True)
    check_distinct(every)
    for fault in load.faults[:5]:
        print(f"WRONG: {fault}", flush=True)
    return load


def rows_of(load: Load, clients: int) -> list[Row]:
    """Throughput, right answers, memory."""
    name = f"{load.answers} requests, {clients} clients"
    ratio, half = float(np.median(load.ratios)), len(load.megabytes) // 2
    growth = load.megabytes[-1] / load.megabytes[half]
    throughput: Row = {
        "name": name, "rival": "plain loop", "ratio": ratio, "low": min(load.ratios), "high": max(load.ratios),
        "target": THROUGHPUT, "met": ratio >= THROUGHPUT, "unit": "images/s, served / plain loop",
        "n": len(load.ratios),
        "per_s": float(np.median(load.served_per_s)), "rival_per_s": float(np.median(load.loop_per_s)),
        "good_ms": _quantiles(load.good_ms), "bad_ms": _quantiles(load.bad_ms),
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
    }  # fmt: skip
    wrong: Row = {
        "name": f"wrong answers of {name}", "rival": "plain loop", "ratio": len(load.faults) / load.answers,
        "target": 0.0, "met": not load.faults, "unit": "share of answers", "n": load.answers,
        "wrong": len(load.faults), "faults": load.faults[:5],
    }  # fmt: skip
    memory: Row = {
        "name": f"memory after {name}", "rival": "itself at half of them", "ratio": growth, "target": GROWTH,
        "met": growth <= GROWTH, "unit": "resident set, end / half", "n": 1, "megabytes": load.megabytes,
    }  # fmt: skip
    return [throughput, wrong, memory]


def _quantiles(milliseconds: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(milliseconds, q)), 1) for q in (50, 95, 99)}


def markdown(rows: Sequence[Row]) -> str:
    """What was claimed, latencies, and memory."""
    lines = ["| what | rival | ratio | target | met | n |", "|---" * 6 + "|"]
    for row in rows:
        sign, met = ("≥" if row["unit"].startswith("images/s") else "≤"), ("yes" if row["met"] else "**no**")
        told = (row["name"], row["rival"], f"{row['ratio']:.3f}", f"{sign} {row['target']:g}", met, row["n"])
        lines.append("| " + " | ".join(map(str, told)) + " |")
    one, wrong, memory = rows
    lines += ["", "| requests | p50, ms | p95, ms | p99, ms |", "|---" * 4 + "|"]
    for kind in ("good", "bad"):
        lines.append(f"| {kind} | " + " | ".join(f"{ms:.0f}" for ms in one[f"{kind}_ms"].values()) + " |")
    statuses = ", ".join(f"{count} of {status}" for status, count in one["statuses"].items())
    sizes = ", ".join(f"{size:.0f}" for size in memory["megabytes"])
    lines += [
        "",
        f"{one['per_s']:.2f} images/s served, {one['rival_per_s']:.2f} in the loop (spread of the ratio "
        f"{one['low']:.2f} – {one['high']:.2f}); statuses: {statuses}; wrong answers: {wrong['wrong']}; memory of the "
        f"server in MB, before the first round and after each: {sizes}.",
        "",
        f"Measured by `{one['command']}` on {one['machine']}",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__, __file__)
    options.add_argument("--requests", type=int, default=200)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--model", type=Path, help="a model folder; default: a random basis on the packaged base")
    options.add_argument("--into", type=Path, help="a Markdown file with the marks, for the tables")
    given = options.parse_args(argv)
    if given.quick:
        given.requests, given.rounds = 40, 2
    start(given)
    with tempfile.TemporaryDirectory() as place:
        model = given.model or make_model(Path(place) / "model")
        root = Path(place) / "project"
        root.mkdir()
        requests = mixed(given.requests, BAD, SIDE)
        load = measure(model, root, requests, given.rounds, given.clients)
    rows = sourced(rows_of(load, given.clients), given, machine())
    publish(rows, markdown(rows), given, MARKS)


if __name__ == "__main__":
    main()
