"""What to change so that training fits a device: the cheapest combination of switches, by their cost in time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from lorweb.plan.devices import Device
from lorweb.plan.flops import step_time
from lorweb.plan.memory import memory
from lorweb.plan.model import Model
from lorweb.plan.setting import Setting, Tokens

RESERVE: Final = 1.5e9
"""Bytes that CUDA's context, its libraries' workspaces and the allocator's gaps take."""
_MORE_WORKERS: Final = (2, 4, 8)
_NAMES: Final = {"optimizer": "optimizer.name"}


@dataclass(frozen=True)
class Fit:
    """The cheapest combination for one size of device; where none fits, `setting` is None, and changes and peak
    are those of the one that needs least.
    """

    size: float  # bytes
    setting: Setting | None
    changes: tuple[str, ...]  # lines of the `train` section; none: it fits as it is
    peak: int
    relative_time: float  # of a step times the number of GPUs, over that of the setting as it is


@dataclass(frozen=True)
class Question:
    """What does not change while switches are tried."""

    model: Model
    tokens: Tokens
    device: Device
    utilisation: float


def fits(question: Question, setting: Setting, sizes: tuple[float, ...]) -> list[Fit]:
    """For each size in bytes the first combination that fits, cheapest first.

    A setting that fits stays as it is. Cost is GPU-seconds per step; costs that differ by under 1 % of its own count
    as equal, and then fewer changes come first. Only switches that this version has are tried; more workers only after
    everything on the given ones.
    """
    own = _cost(question, setting)
    tried = []
    for candidate in _candidates(setting):
        changes = changed(setting, candidate)
        grown = candidate.workers > setting.workers
        first = bool(changes), grown
        tried.append((first, round(_cost(question, candidate) / own, 2), len(changes), changes, candidate))
    tried.sort(key=lambda row: row[:4])
    peaks: dict[Setting, int] = {}
    return [_first(question, tried, size, peaks) for size in sizes]


def changed(before: Setting, after: Setting) -> tuple[str, ...]:
    """'KEY: VALUE' of what differs, as in the `train` section."""
    keys = [name for name in Setting.__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
    return tuple(f"{_NAMES.get(key, key)}: {_yaml(getattr(after, key))}" for key in keys)


def _first(question: Question, tried: list[Any], size: float, peaks: dict[Setting, int]) -> Fit:
    least: tuple[int, tuple[str, ...]] | None = None
    for _, time, _, changes, candidate in tried:
        if candidate not in peaks:
            peaks[candidate] = memory(question.model, candidate, question.tokens).peak
        peak = peaks[candidate]
        if peak + RESERVE <= size:
            return Fit(size, candidate, changes, peak, time)
        least = (peak, changes) if least is None or peak < least[0] else least
    assert least is not None, "the setting itself is a candidate"
    return Fit(size, None, least[1], least[0], 0.0)


def _candidates(setting: Setting) -> Iterator[Setting]:
    switches: dict[str, list[Any]] = {
        "optimizer": _both(setting.optimizer, "adamw_8bit" if setting.optimizer.startswith("adamw") else None),
        "precision": _both(setting.precision, "bfloat16" if setting.cuda else None),
        "gradient_checkpointing": _both(setting.gradient_checkpointing, True),
        "workers": [setting.workers, *(w for w in _MORE_WORKERS if setting.workers < w <= setting.batch_size)],
        "base_weights": _both(setting.base_weights, "int8", "nf4") if setting.cuda else [setting.base_weights],
        "offload_activations": _both(setting.offload_activations, True if setting.cuda else None),
        "sharding": _both(setting.sharding, None if setting.optimizer == "prodigy" else "zero2"),
        "shard_base": _both(setting.shard_base, True),
    }
    for values in product(*switches.values()):
        candidate = replace(setting, **dict(zip(switches, values, strict=True)))
        if _sensible(setting, candidate):
            yield from _accumulated(candidate)


def _accumulated(setting: Setting) -> Iterator[Setting]:
    """The setting with its own micro-batches, and with every smaller size of them."""
    yield setting
    smallest = setting
    for count in range(setting.accumulate + 1, setting.batch_size // setting.workers + 1):
        candidate = replace(setting, accumulate=count)
        if candidate.rows < smallest.rows:
            smallest = candidate
            yield candidate


def _sensible(before: Setting, after: Setting) -> bool:
    """What the parameters refuse, and what does nothing, is not tried."""
    if after.shard_base and (after.base_weights != "full" or _gathers_into_host(after)):
        return False
    if after.workers == 1 and after != before and (after.sharding, after.shard_base) != ("none", False):
        return False
    return after.accumulate * after.workers <= after.batch_size


def _gathers_into_host(setting: Setting) -> bool:
    return setting.offload_activations and not setting.gradient_checkpointing


def _both(own: Any, *others: Any) -> list[Any]:
    return [own, *(other for other in others if other is not None and other != own)]


def _cost(question: Question, setting: Setting) -> float:
    at = step_time(question.model, setting, question.tokens, question.device, question.utilisation)
    return at.seconds * setting.workers


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
