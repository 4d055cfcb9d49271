"""Training pairs that start from an image like an evaluated one: by its look, or by its content.

The leak check (lorweb/data/leaks.py) finds images that are the same byte for byte; here are those that are the same to
people: another crop, another file format, another photo of the one thing.

Legend: E evaluated pairs, P pairs of a chunk, D features.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorweb.data.dedup import Near

Contents = Iterable[tuple[list[str], NDArray[np.float32]]]  # chunks of pairs: ids, and features of their a [P, D]


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
    train: Collection[str], evaluated: Collection[str], contents: Iterable[Contents], least: float
) -> dict[str, str]:
    """As `alike_by_look`, where the cosine of features of both a is at least `least`; the nearest is named.

    Args:
        contents: the chunks of all pairs, twice: once to gather the evaluated, once to compare. Memory is that of the
            evaluated pairs and of one chunk.
    """
    first, second = contents
    names, evaluated_ED = _gathered(first, set(evaluated))
    found: dict[str, str] = {}
    if not names:
        return found
    trained = set(train)
    for ids, features_PD in second:
        cosine_PE = _unit(features_PD) @ evaluated_ED.T
        for name, row_E in zip(ids, cosine_PE, strict=True):
            nearest = int(row_E.argmax())
            if name in trained and row_E[nearest] >= least:
                found[name] = names[nearest]
    return found


def _gathered(contents: Contents, wanted: set[str]) -> tuple[list[str], NDArray[np.float32]]:
    rows = dict(_wanted(contents, wanted))
    names = sorted(rows)
    return names, np.stack([rows[name] for name in names]) if names else np.empty((0, 0), np.float32)


def _wanted(contents: Contents, wanted: set[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for ids, features_PD in contents:
        for name, unit_D in zip(ids, _unit(features_PD), strict=True):
            if name in wanted:
                yield name, unit_D


def _unit(features_PD: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features_PD, axis=1, keepdims=True)
    return np.asarray(features_PD / np.maximum(lengths, 1e-12), dtype=np.float32)
