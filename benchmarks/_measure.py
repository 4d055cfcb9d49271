"""What the benchmarks share: interleaved rounds, ratios with their interval, profiles of missed targets, JSON.

A result is {"name", "rival", "ratio", "low", "high", "target", "met", "unit", "n", "ms", "rival_ms", "machine",
"command"}. `ratio` is the median over rounds of (ours / rival) within one round, `low` and `high` its 90 % bootstrap
interval, `n` the number of rounds, `ms` and `rival_ms` median times. A target is met if the median is within it; where
it is not, "profile" says which operators took how many milliseconds on both sides.
"""

import argparse
import gc
import json
import os
import platform
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

Seconds = dict[str, list[float]]
Row = dict[str, Any]
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd")


@dataclass(frozen=True)
class Rounds:
    """How long to measure: at least `least` rounds, then until `seconds` have passed or `most` rounds are done."""

    least: int
    most: int
    seconds: float


@dataclass(frozen=True)
class Contestant:
    """One thing to time: `run` is timed, `before` is not (it clears what the last run left).

    `warm` runs once before all rounds; without it that is `run`.
    """

    run: Callable[[], object]
    before: Callable[[], object] = lambda: None
    warm: Callable[[], object] | None = None


@dataclass(frozen=True)
class Claim:
    """`ours` takes at most `target` times the time of `rival`; both are names of contestants."""

    name: str
    ours: str
    rival: str
    target: float


def race(contestants: dict[str, Contestant], rounds: Rounds, claims: Sequence[Claim], calls: int = 1) -> list[Row]:
    """Measure, and print and return a row for each claim; those that do not hold are profiled.

    `calls` says how many calls one timed run makes; the times in a row are those of one call.
    """
    seconds = interleaved(contestants, rounds)
    rows, profiles = [], {}
    for claim in claims:
        row = compare(seconds, claim, calls)
        if not row["met"]:
            for name in {claim.ours, claim.rival} - set(profiles):
                profiles[name] = operators(contestants[name])
            row["profile"] = {name: profiles[name] for name in (claim.ours, claim.rival)}
        rows.append(show(row))
    return rows


def interleaved(contestants: dict[str, Contestant], rounds: Rounds) -> Seconds:
    """Seconds of every round by contestant.

    Each round runs all of them once, and the next one starts with another of them: what drifts, drifts for all.
    """
    seconds: Seconds = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant.before()
        (contestant.warm or contestant.run)()
    names, begun, number = list(contestants), time.perf_counter(), 0
    while number < rounds.least or (number < rounds.most and time.perf_counter() - begun < rounds.seconds):
        for name in names:
            contestants[name].before()
            gc.collect(0)
            start = time.perf_counter()
            made = contestants[name].run()
            seconds[name].append(time.perf_counter() - start)
            del made  # giving memory back is not timed
        names = names[1:] + names[:1]
        number += 1
    return seconds


def compare(seconds: Seconds, claim: Claim, calls: int = 1) -> Row:
    """The row of one claim."""
    ours, rival = np.array(seconds[claim.ours]), np.array(seconds[claim.rival])
    ratios = ours / rival
    medians = np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1)
    ratio = float(np.median(ratios))
    return {
        "name": claim.name,
        "rival": claim.rival,
        "ratio": round(ratio, 4),
        "low": round(float(np.quantile(medians, 0.05)), 4),
        "high": round(float(np.quantile(medians, 0.95)), 4),
        "target": claim.target,
        "met": ratio <= claim.target,
        "unit": f"time, {claim.ours} / {claim.rival}",
        "n": len(ratios),
        "ms": round(float(np.median(ours)) * 1e3 / calls, 5),
        "rival_ms": round(float(np.median(rival)) * 1e3 / calls, 5),
    }


def operators(contestant: Contestant, most: int = 6) -> dict[str, float]:
    """Milliseconds of one run by operator, the dearest first; "all" is their sum."""
    contestant.before()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        contestant.run()
    own = {event.key: event.self_cpu_time_total / 1e3 for event in seen.key_averages()}
    dearest = sorted(own, key=lambda name: -own[name])[:most]
    return {"all": round(sum(own.values()), 3), **{name: round(own[name], 3) for name in dearest}}


def machine() -> str:
    """Hardware and versions in one line."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = re.search(r"model name\s*: (.+)", text)
    flags = set(re.findall(r"^(?:flags|Features)\s*: (.+)", text, re.M)[0].split()) if model else set()
    built = torch.__config__.show()
    blas = re.search(r"BLAS_INFO=(\w+)", built)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft"))
    return (
        f"{model[1] if model else platform.machine()} ({' '.join(flag for flag in FLAGS if flag in flags)}), "
        f"{torch.get_num_threads()} threads of {len(re.findall('^processor', text, re.M)) or '?'} cores, "
        f"BLAS {blas[1] if blas else 'unknown'}, Python {platform.python_version()}, {packages}, float32"
    )


def parser(doc: str | None, script: str) -> argparse.ArgumentParser:
    """The options of every script; give its __doc__ and __file__."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(script=Path(script).name)
    made.add_argument("--json", type=Path, help="write the results there")
    made.add_argument("--quick", action="store_true", help="fewer cases and rounds: about a minute")
    made.add_argument("--threads", type=int, help="of torch (default: torch's own choice)")
    return made


def start(given: argparse.Namespace) -> None:
    """Threads, seed and the first line on the screen."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would print its own starts and stops
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(machine(), flush=True)


def show(row: Row) -> Row:
    """Print a row as soon as it is known."""
    print(
        f"{row['name']:<78} / {row['rival']:<20} {row['ratio']:6.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        f"  target <= {row['target']:<5} {'met' if row['met'] else 'MISSED':<6}  {row['ms']:.4g} ms, n {row['n']}",
        flush=True,
    )
    return row


def finish(rows: list[Row], given: argparse.Namespace) -> None:
    """Write the JSON file, if one was asked for."""
    if not given.json:
        return
    rows = [{**row, "machine": machine(), "command": command(given)} for row in rows]
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def command(given: argparse.Namespace) -> str:
    """The command line that measures the same again: all options that have a value, but for the file."""
    words = ["python", f"benchmarks/{given.script}"]
    for name, value in vars(given).items():
        if name in ("script", "json") or value is None or value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [f"--{name}", *map(str, values)]
    return shlex.join(words)
