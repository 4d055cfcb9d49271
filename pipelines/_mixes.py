"""What the router mixes, asked of the trained basis and the stored features alone: the base is not loaded.

Legend: B analogies, L layers, N LoRAs, Q query width.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorweb.basis import mix, router_of
from lorweb.basis.bare import load_bare
from lorweb.basis.health import Health, health
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.neighbours import TaskMixes, nearest, task_mixes, training_analogies
from lorweb.kontext.metadata import BASIS_FILE
from lorweb.training.dataset import Encoded, load_train_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines._answers import Plan

NEAREST = 3  # training tasks that are named for each test task


@dataclass(frozen=True)
class Mixes:
    """Of one basis: mean mixes of test and training tasks, who is near whom, and the health on the test analogies."""

    test: TaskMixes
    train: TaskMixes
    near: dict[str, list[tuple[str, float]]]
    health: Health

    @property
    def use_N(self) -> list[float]:
        """Share of each atom in all use, mean over layers; sums to 1 unless the basis is still zero."""
        return [float(share) for share in np.mean([row.use for row in self.health.layers.values()], axis=0)]


def read_mixes(plan: "Plan") -> Mixes | None:
    """None where our model is not evaluated, or has internal queries, whose coefficients are no function of the query.

    Raises:
        FileNotFoundError, ValueError: the weights or the encoded data are damaged or do not fit each other.
    """
    from pipelines._answers import ANALOGIES

    if CANDIDATE not in plan.weights:
        return None
    bare = load_bare(Path(plan.sources.weights[CANDIDATE]) / BASIS_FILE)
    if router_of(bare).config.internal:
        return None
    encoded = Encoded.load(plan.sources.encoded)

    def queries_of(asked: Sequence[tuple[str, str]]) -> "Tensor":
        import torch

        rows = [(*encoded.pairs[exemplar], encoded.pairs[query][0]) for exemplar, query in asked]
        return encoded.queries(torch.tensor(rows))

    def mixes_of(asked: Sequence[tuple[str, str]]) -> "Tensor":
        return mix(bare, queries_of(asked)).detach().float().cpu()

    asked = defaultdict(list)
    for row in plan.analogies:
        asked[str(row["task"])].append((row["exemplar"], row["query"]))
    test = task_mixes(dict(sorted(asked.items())), mixes_of)
    train = task_mixes(training_analogies(load_train_pairs(ANALOGIES), encoded.pool), mixes_of)
    everything = queries_of([pairs for found in asked.values() for pairs in found])
    return Mixes(test, train, nearest(test, train, NEAREST), health(bare, everything))
