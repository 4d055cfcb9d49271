"""Which training tasks the router treats like a test task: cosines of mean mixes. Nothing is drawn for it.

The mix of an analogy depends on its query alone, so that stored features and the router are enough. All mixes share
most of what they are (a softmax over N atoms is never far from even), so the mean over the training tasks is taken off
first: what is compared is how a task's mix differs from a task's usual one.

Legend: T tasks, L layers, N LoRAs, B analogies, Q query width.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lorweb.basis.files import read_safetensors, write_safetensors
from lorweb.records import stable_id
from lorweb.training.sampler import AnalogySampler, TrainPair

if TYPE_CHECKING:
    from torch import Tensor

PER_TASK: Final = 12  # training analogies that a task's mean mix is made of
FORMAT: Final = "lorweb-task-mixes"


@dataclass(frozen=True)
class TaskMixes:
    """Mean coefficients of tasks."""

    tasks: tuple[str, ...]
    mixes_TLN: NDArray[np.float64]

    def save(self, path: Path, basis_sha256: str) -> None:
        """Write them, for the basis file of that hash; equal content is equal bytes. Atomic."""
        import torch

        header = {"format": FORMAT, "basis_sha256": basis_sha256, "tasks": list(self.tasks)}
        mixes = torch.from_numpy(self.mixes_TLN).float()
        write_safetensors(path, {"mixes": mixes}, {"lorweb": json.dumps(header, sort_keys=True)})


def read_task_mixes(path: Path, basis_sha256: str) -> TaskMixes:
    """The inverse of `TaskMixes.save`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, another kind of file, or of another basis.
    """
    tensors, metadata = read_safetensors(path)
    header = json.loads(metadata.get("lorweb", "{}"))
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} holds no mixes of tasks; the evaluate stage writes reports/task_mixes.safetensors")
    if header["basis_sha256"] != basis_sha256:
        raise ValueError(
            f"{path} was computed on the basis {header['basis_sha256']}, not on {basis_sha256}; run the evaluate stage "
            "again"
        )
    return TaskMixes(tuple(header["tasks"]), tensors["mixes"].double().numpy())


def training_analogies(pairs: Sequence[TrainPair], pool: int) -> dict[str, list[tuple[str, str]]]:
    """(exemplar, query) pair ids of each trained task, at most `PER_TASK`, the two of different subjects.

    `pool`: how many training analogies were encoded as grids; where that is not 0, only those can be asked.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    if pool:
        sampler = AnalogySampler(list(pairs), 0, 1, 1.0)
        for exemplar, query in (sampler.pooled(index) for index in range(pool)):
            found[exemplar.task].append((exemplar.pair, query.pair))
        return {task: list(dict.fromkeys(mine))[:PER_TASK] for task, mine in sorted(found.items())}
    tasks: dict[str, list[TrainPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: stable_id("neighbour", pair.pair)):
        tasks[pair.task].append(pair)
    for task, mine in sorted(tasks.items()):
        for place, exemplar in enumerate(mine[:PER_TASK]):
            others = [pair for pair in mine[place + 1 :] + mine[:place] if pair.subject != exemplar.subject]
            found[task] += [(exemplar.pair, query.pair) for query in others[:1]]
    return {task: mine for task, mine in found.items() if mine}


def task_mixes(
    asked: Mapping[str, Sequence[tuple[str, str]]], mixes_of: Callable[[Sequence[tuple[str, str]]], "Tensor"]
) -> TaskMixes:
    """Mean mix of each task; `mixes_of` gives the coefficients [B, L, N] of (exemplar, query) pair ids."""
    means = {task: mixes_of(found).double().mean(0).numpy() for task, found in asked.items() if found}
    return TaskMixes(tuple(means), np.stack(list(means.values())) if means else np.zeros((0, 0, 0)))


def nearest(test: TaskMixes, train: TaskMixes, count: int) -> dict[str, list[tuple[str, float]]]:
    """Of each test task the `count` training tasks of largest cosine, largest first; {} without training tasks."""
    if not train.tasks or not test.tasks:
        return {}
    middle_LN = train.mixes_TLN.mean(0)
    cosine = _directions(test.mixes_TLN - middle_LN) @ _directions(train.mixes_TLN - middle_LN).T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :count]
    return {task: [(train.tasks[n], float(cosine[row, n])) for n in order[row]] for row, task in enumerate(test.tasks)}


def _directions(mixes_TLN: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = mixes_TLN.reshape(len(mixes_TLN), -1)
    scaled: Any = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
    return np.asarray(scaled, dtype=np.float64)
