"""Pairs that are known to be bad, made from good ones: what a filter is measured with.

Each kind is a way in which a generator or a data set goes wrong. A planted pair takes the place of a good one: its
task, instruction and source are that pair's.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image

from lorweb.data.decide import PairPlace
from lorweb.records import stable_id

Kind = Literal["no_op", "wrong_edit", "wrong_subject", "swapped", "corrupted"]
KINDS: Final[tuple[Kind, ...]] = ("no_op", "wrong_edit", "wrong_subject", "swapped", "corrupted")
NOISE: Final = 2  # grey levels by which half of the no-ops differ from their image, as a codec would
Pair = tuple[Image.Image, Image.Image]


@dataclass(frozen=True)
class Plant:
    """A bad pair in the place of `pair`; `other` gives a wrong edit or a wrong subject its after image."""

    kind: Kind
    pair: str
    other: str | None


def plan_plants(places: Mapping[str, PairPlace], per_kind: int, seed: int) -> list[Plant]:
    """`per_kind` plants of each kind, no pair used twice in the place of a good one; the same for the same seed.

    Raises:
        ValueError: there are too few pairs, or too few that share a source or a task.
    """
    by_source: dict[str, list[str]] = defaultdict(list)
    by_task: dict[str, list[str]] = defaultdict(list)
    for name in sorted(places):
        by_source[places[name].source].append(name)
        by_task[places[name].task].append(name)
    waiting = iter(sorted(places, key=lambda name: stable_id("plant", seed, name)))
    plants: list[Plant] = []
    for kind in KINDS:
        found = 0
        while found < per_kind:
            drawn = next(waiting, None)
            if drawn is None:
                raise ValueError(f"{len(places)} pairs are too few for {per_kind} plants of {len(KINDS)} kinds each")
            here = places[drawn]
            others: list[str] | None = None
            if kind == "wrong_edit":
                others = [o for o in by_source[here.source] if places[o].task != here.task]
            elif kind == "wrong_subject":
                others = [o for o in by_task[here.task] if places[o].subject != here.subject]
            if others == []:
                continue
            other = None if others is None else _first(others, seed, drawn)
            plants.append(Plant(kind, drawn, other))
            found += 1
    return plants


def _first(names: list[str], *seed: object) -> str:
    return min(names, key=lambda name: stable_id("plant", *seed, name))


def plant(what: Plant, images: Callable[[str], Pair], seed: int) -> Pair:
    """The two images of a bad pair; `images` gives those of a good one by its id (RGB, of one size)."""
    before, after = images(what.pair)
    rng = np.random.default_rng(int(stable_id("plant", seed, what.kind, what.pair), 16))
    if what.kind == "no_op":
        return before, _noisy(before, rng) if rng.random() < 0.5 else before
    if what.kind == "swapped":
        return after, before
    if what.kind == "corrupted":
        return before, _corrupted(after, rng)
    assert what.other is not None
    return before, images(what.other)[1].resize(after.size)


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    v = np.asarray(image, np.int16)
    v = v + rng.integers(-NOISE, NOISE + 1, v.shape, dtype=np.int16)
    return Image.fromarray(np.clip(v, 0, 255).astype(np.uint8))


def _corrupted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One colour, or the lower half grey as in a cut file, or noise."""
    v = np.asarray(image).copy()
    kind = int(rng.integers(3))
    if kind == 0:
        v[:] = rng.integers(0, 256, 3)
    elif kind == 1:
        v[v.shape[0] // 2 :] = 128
    else:
        v = rng.integers(0, 256, v.shape, dtype=np.uint8)
    return Image.fromarray(v)
