"""Which training tasks an analogy is like: as the report's neighbours, by `lorweb.evaluation.neighbours`.

Legend: L layers with a basis, N LoRAs per layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lorweb.evaluation.neighbours import TaskMixes
    from lorweb.kontext.pipeline import AnalogyPipeline


@dataclass(frozen=True)
class Near:
    """A training task, and the cosine between its mean mix and the one that is asked about, -1 to 1.

    Of both, how they differ from the usual mix of all training tasks.
    """

    task: str
    instruction: str
    cosine: float


@dataclass(frozen=True)
class TrainedTasks:
    """The mean mix of every training task, and what each is told by."""

    mixes: "TaskMixes"
    instructions: Mapping[str, str]

    def nearest(self, mix_LN: Tensor, count: int) -> list[Near]:
        """The `count` nearest tasks, the nearest first."""
        from lorweb.evaluation.neighbours import TaskMixes, nearest

        asked = TaskMixes(("asked",), mix_LN.double().numpy()[None])
        found = nearest(asked, self.mixes, count)["asked"]
        return [Near(task, self.instructions[task], cosine) for task, cosine in found]


def trained_tasks(pipe: "AnalogyPipeline", data: Path) -> TrainedTasks:
    """The training tasks below `data`, from features that the encode stage kept: no encoder runs.

    Raises:
        FileNotFoundError: the pipeline has not run there.
        ValueError: the data were encoded for another model, or this one has internal queries.
    """
    from lorweb.basis import mix
    from lorweb.evaluation.neighbours import task_mixes, training_analogies
    from lorweb.training.dataset import Encoded, load_train_pairs

    if pipe.config.internal or pipe.encoder is None:
        raise ValueError("this model asks anew in every layer at every step, so that an analogy has no one mix")
    pairs = load_train_pairs(data / "analogies")
    encoded = Encoded.load(data / "encoded")
    found, wanted = (
        (str(encoded.manifest["params"].get("encoder_revision", "")), encoded.query_mode),
        (pipe.encoder.revision, pipe.config.query_mode),
    )
    if found != wanted:
        raise ValueError(f"{data}/encoded is of encoder and query {found}, but this model's are {wanted}")
    asked = training_analogies(pairs, encoded.pool)
    if not asked:
        raise ValueError(f"{data}/analogies lists no task with two subjects")

    @torch.no_grad()
    def mixes_of(asked: Sequence[tuple[str, str]]) -> Tensor:
        rows_B3 = torch.tensor([[*encoded.pairs[exemplar], encoded.pairs[query][0]] for exemplar, query in asked])
        mix_BLN: Tensor = mix(pipe.base.transformer, encoded.queries(rows_B3)).float().cpu()
        return mix_BLN

    return TrainedTasks(task_mixes(asked, mixes_of), {pair.task: pair.instruction for pair in pairs})
