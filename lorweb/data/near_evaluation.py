"""Training pairs that start from an image like an evaluated one: by its look, or by its content.

The leak check (lorweb/data/leaks.py) finds images that are the same byte for byte; here are those that are the same to
people: another crop, another file format, another photo of the one thing.

Legend: E evaluated pairs, P pairs of a chunk, D features.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorweb.data.dedup import Near, unit

# Chunks of all pairs, again at each call: ids, and features of their a [P, D].
Contents = Callable[[], Iterable[tuple[list[str], NDArray[np.float32]]]]


def evaluated_pairs(analogies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pairs of analogies (rows of `records.ANALOGY`) with subjects that are never trained, by id."""
    return sorted({row[side] for row in analogies if not row["subject_seen"] for side in ("exemplar", "query")})


def alike_by_look(
    train: Iterable[str], evaluated: Iterable[str], look: Mapping[str, int], distance: int
) -> dict[str, str]:
    """{training pair: the evaluated pair whose image a looks like its own}.

    Args:
        look: pair id -> 64-bit perceptual hash of a.
        distance: bits in which two that look alike may differ.
    """
    near = Near(distance)
    for name in evaluated:
        near.add(look[name], name)
    alike = {name: min(near.find(look[name]), default=None) for name in train}
    return {name: other for name, other in alike.items() if other is not None}


def alike_by_content(
    train: Collection[str], evaluated: Collection[str], contents: Contents, least: float
) -> dict[str, str]:
    """As `alike_by_look`, where the cosine of features of both a is at least `least`; the nearest is named.

    Args:
        contents: called twice, to gather the evaluated pairs and to compare; memory is theirs and that of one chunk.
    """
    wanted = set(evaluated)
    rows = {
        name: unit(row_D) for ids, own in contents() for name, row_D in zip(ids, own, strict=True) if name in wanted
    }
    found: dict[str, str] = {}
    if not rows:
        return found
    names = sorted(rows)
    evaluated_ED = np.stack([rows[name] for name in names])
    trained = set(train)
    for ids, features_PD in contents():
        cosine_PE = np.stack([unit(row_D) for row_D in features_PD]) @ evaluated_ED.T
        for name, row_E in zip(ids, cosine_PE, strict=True):
            nearest = int(row_E.argmax())
            if name in trained and row_E[nearest] >= least:
                found[name] = names[nearest]
    return found
