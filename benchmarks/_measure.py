"""Measuring: contestants in interleaved rounds, ratios with their interval, a profile of what misses its target."""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from _report import Row, show
from torch.profiler import ProfilerActivity, profile

Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Rounds:
    """How long to measure: at least `least` rounds, then until `seconds` have passed or `most` rounds are done."""

    least: int
    most: int
    seconds: float


@dataclass(frozen=True)
class Contestant:
    """One thing to time: `run` is timed, `before` is not (it clears what the last run left).

    A long run may be an iterator over its parts: those of all contestants are then interleaved too, and their times
    are added up. `warm` runs once before all rounds; without it that is `run`.
    """

    run: Callable[[], object]
    before: Callable[[], object] = lambda: None
    warm: Callable[[], object] | None = None


@dataclass(frozen=True)
class Claim:
    """`ours` takes at most `target` times the time of `rival`; both are names of contestants. None: no target."""

    name: str
    ours: str
    rival: str
    target: float | None


def race(contestants: dict[str, Contestant], rounds: Rounds, claims: Sequence[Claim], calls: int = 1) -> list[Row]:
    """Measure, and print and return a row for each claim; those that do not hold are profiled.

    `calls` says how many calls one timed run makes; the times in a row are those of one call.
    """
    seconds = interleaved(contestants, rounds)
    rows, profiles = [], {}
    for claim in claims:
        row = compare(seconds, claim, calls)
        if row["met"] is False:
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
        finish(contestant.warm or contestant.run)
    names, begun, number = list(contestants), time.perf_counter(), 0
    while number < rounds.least or (number < rounds.most and time.perf_counter() - begun < rounds.seconds):
        for name, spent in one_round({name: contestants[name] for name in names}).items():
            seconds[name].append(spent)
        names = names[1:] + names[:1]
        number += 1
    return seconds


def one_round(contestants: dict[str, Contestant]) -> dict[str, float]:
    """Seconds of one run of each, part by part where a run has parts. Giving memory back is not timed."""
    spent = dict.fromkeys(contestants, 0.0)
    unfinished: dict[str, Iterator[object]] = {}
    for name, contestant in contestants.items():
        contestant.before()
        gc.collect(0)
        start = time.perf_counter()
        made = contestant.run()
        spent[name] = time.perf_counter() - start
        if isinstance(made, Iterator):
            unfinished[name] = made
        del made
    while unfinished:
        for name, parts in list(unfinished.items()):
            start = time.perf_counter()
            try:
                next(parts)
            except StopIteration:
                del unfinished[name]
            spent[name] += time.perf_counter() - start
    return spent


def finish(run: Callable[[], object]) -> None:
    """One run with all its parts."""
    made = run()
    if isinstance(made, Iterator):
        deque(made, maxlen=0)


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
        "met": None if claim.target is None else ratio <= claim.target,
        "unit": f"time, {claim.ours} / {claim.rival}",
        "n": len(ratios),
        "ms": round(float(np.median(ours)) * 1e3 / calls, 5),
        "rival_ms": round(float(np.median(rival)) * 1e3 / calls, 5),
    }


def operators(contestant: Contestant, most: int = 6) -> dict[str, float]:
    """Milliseconds of one run by operator, the dearest first; "all" is their sum."""
    contestant.before()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        finish(contestant.run)
    own = {event.key: event.self_cpu_time_total / 1e3 for event in seen.key_averages()}
    dearest = sorted(own, key=lambda name: -own[name])[:most]
    return {"all": round(sum(own.values()), 3), **{name: round(own[name], 3) for name in dearest}}
