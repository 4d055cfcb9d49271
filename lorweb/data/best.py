"""Best k of n: several seeds were drawn for one edit of one image, and the best few of them stay."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from lorweb.data.rejects import Rejected


@dataclass(frozen=True)
class Draw:
    """One pair among those that differ in their seed only."""

    id: str
    task: str
    source: str


def not_best(draws: list[Draw], ranking: Mapping[str, float], keep: int, score: str) -> dict[str, Rejected]:
    """The pairs that leave because `keep` others of the same task and source have a larger `score`: {id: why}.

    Of equal scores the smaller id stays. `ranking` is pair id -> the score, of at least the same pairs.

    Raises:
        ValueError: `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"filter.best.keep is {keep}; keep at least one pair of each edit, or set filter.best to null")
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for draw in draws:
        groups[draw.task, draw.source].append(draw.id)
    gone: dict[str, Rejected] = {}
    for own in groups.values():
        ranked = sorted(own, key=lambda name: (-ranking[name], name))
        for place, name in enumerate(ranked[keep:], start=keep + 1):
            least = ranking[ranked[keep - 1]]
            reason = f"{score} {ranking[name]:.4g} is number {place} of {len(own)} draws of this edit; {keep} stay"
            gone[name] = Rejected("not_best", reason, ranking[name], least)
    return gone
