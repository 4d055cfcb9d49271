"""Which training tasks an analogy is like: those whose mean mix is nearest to its own.

Legend: T tasks, S sampled analogies, L layers with a basis, N LoRAs per layer.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lorweb.kontext.pipeline import AnalogyPipeline
    from lorweb.training.dataset import Encoded

PER_TASK = 8  # analogies whose mixes are averaged
Couple = tuple[str, str]  # pair ids: exemplar, query


@dataclass(frozen=True)
class Near:
    """A training task and how near it is: 1 is its mean mix itself, 0 is as far as the farthest task lies."""

    task: str
    instruction: str
    nearness: float


@dataclass(frozen=True)
class TaskMixes:
    """The mean mix of every training task, [T, L, N]."""

    tasks: tuple[str, ...]
    instructions: tuple[str, ...]
    means_TLN: Tensor

    def nearest(self, mix_LN: Tensor, count: int) -> list[Near]:
        """The `count` nearest tasks by Euclidean distance, the nearest first."""
        distance_T = (self.means_TLN - mix_LN.float()).flatten(1).norm(dim=1)
        farthest = max(float(distance_T.max()), 1e-12)
        order = distance_T.argsort(stable=True)[:count].tolist()
        return [Near(self.tasks[i], self.instructions[i], 1.0 - float(distance_T[i]) / farthest) for i in order]


def task_mixes(pipe: "AnalogyPipeline", data: Path) -> TaskMixes:
    """Mean mixes of the training tasks below `data`, from features that the encode stage kept: no encoder runs.

    Raises:
        FileNotFoundError: the pipeline has not run there.
        ValueError: the data were encoded for another model, or this one has internal queries.
    """
    from lorweb.data.shards import read_table
    from lorweb.records import TRAIN_PAIR
    from lorweb.training.dataset import Encoded

    if pipe.config.internal or pipe.encoder is None:
        raise ValueError("this model asks anew in every layer at every step, so that an analogy has no one mix")
    rows = read_table(data / "analogies" / "train", TRAIN_PAIR, ["pair", "task", "subject", "instruction"]).to_pylist()
    encoded = Encoded.load(data / "encoded")
    found, wanted = (
        (str(encoded.manifest["params"].get("encoder_revision", "")), encoded.query_mode),
        (pipe.encoder.revision, pipe.config.query_mode),
    )
    if found != wanted:
        raise ValueError(f"{data}/encoded is of encoder and query {found}, but this model's are {wanted}")
    by_task: dict[str, list[tuple[str, str]]] = defaultdict(list)
    instruction: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: str(row["pair"])):
        by_task[row["task"]].append((row["subject"], row["pair"]))
        instruction.setdefault(row["task"], row["instruction"])
    couples = {task: _couples(pairs) for task, pairs in sorted(by_task.items())}
    tasks = tuple(task for task, chosen in couples.items() if chosen)
    if not tasks:
        raise ValueError(f"{data}/analogies lists no task with two subjects")
    means = [_mean_mix(pipe, encoded, couples[task]) for task in tasks]
    return TaskMixes(tasks, tuple(instruction[task] for task in tasks), torch.stack(means))


def _couples(pairs: list[tuple[str, str]]) -> list[Couple]:
    """Up to `PER_TASK` analogies of (subject, pair) rows: each pair beside the next one of another subject."""
    found: list[Couple] = []
    for index, (subject, exemplar) in enumerate(pairs):
        others = (pair for other, pair in pairs[index + 1 :] + pairs[:index] if other != subject)
        query = next(others, None)
        if query is not None:
            found.append((exemplar, query))
        if len(found) == PER_TASK:
            break
    return found


@torch.no_grad()
def _mean_mix(pipe: "AnalogyPipeline", encoded: "Encoded", couples: list[Couple]) -> Tensor:
    from lorweb.basis import mix

    rows_S3 = torch.tensor([[*encoded.pairs[exemplar], encoded.pairs[query][0]] for exemplar, query in couples])
    mean_LN: Tensor = mix(pipe.base.transformer, encoded.queries(rows_S3)).float().cpu().mean(0)
    return mean_LN
