"""Duplicates among the pairs of one task, by perceptual hashes of both images."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class HashedPair:
    """What deduplication looks at; `group` is the task, since one source is meant to come back in other tasks."""

    id: str
    group: str
    before: int  # 64-bit hash
    after: int


def duplicates(pairs: Iterable[HashedPair], distance: int) -> dict[str, str]:
    """Which pairs repeat an earlier one (by id) of their task: {id of the repeat: id of the pair that stays}.

    Two pairs are the same if both their hashes differ in at most `distance` bits. The smallest id stays, whatever the
    order of the input.
    """
    kept: dict[str, list[HashedPair]] = {}
    exact: dict[tuple[str, int, int], str] = {}
    found: dict[str, str] = {}
    for pair in sorted(pairs, key=lambda p: p.id):
        same = exact.get((pair.group, pair.before, pair.after))
        if same is None and distance > 0:
            near = (k.id for k in kept.get(pair.group, []) if _close(k, pair, distance))
            same = next(near, None)
        if same is not None:
            found[pair.id] = same
            continue
        exact[pair.group, pair.before, pair.after] = pair.id
        kept.setdefault(pair.group, []).append(pair)
    return found


def _close(one: HashedPair, other: HashedPair, distance: int) -> bool:
    before, after = (one.before ^ other.before).bit_count(), (one.after ^ other.after).bit_count()
    return max(before, after) <= distance
