"""Generate, first part: the tasks, from the catalogue or invented by a language model (job `instruct`)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from lorweb.config import Generate
from lorweb.data.catalogue import Task, load_catalogue
from lorweb.data.checks import Refusal, reject
from lorweb.data.editors.entries import LlmInstructions
from lorweb.data.instructions import VERSION, ReplyReader, prompt_for
from lorweb.data.llm import LanguageModel, Sampled, check_model_folder
from lorweb.data.rejects import Rejected
from lorweb.storage.fetched import fetched
from pipelines._rows import Execute, Item, Result, RowJob, run_rows
from pipelines._stage import StageFailed, seed_of

REPLY: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("reply", pa.string(), nullable=False),
    ]
)


class Instruct:
    """The worker: prompts -> replies, as they are."""

    def __init__(self, cfg: LlmInstructions) -> None:
        import torch

        device = "cuda" if cfg.pool.gpus > 0 and torch.cuda.is_available() else "cpu"
        self.model, self.fault = None, ""
        try:
            self.model = LanguageModel(fetched(cfg.model), cfg.dtype, device)
        except (ValueError, OSError) as error:  # told row by row, as editors tell theirs
            self.fault = str(error)
        self.how = Sampled(cfg.max_new_tokens, cfg.temperature)

    def __call__(self, items: list[Item]) -> list[Result]:
        if self.model is None:
            return [Rejected("error", self.fault) for _ in items]
        return [{"id": i["id"], "reply": self.model(i["prompt"], i["seed"], self.how)} for i in items]


@dataclass(frozen=True)
class Drafted:
    """The tasks that editors with instructions may do, and what became of invented ones."""

    tasks: Mapping[str, Task]
    rejects: list[dict[str, Any]]  # records.REJECT
    metrics: dict[str, Any]


def draft_tasks(cfg: Generate, seed: int, execute: Execute | None) -> Drafted:
    """The tasks that `generate.instructions` asks for.

    Raises:
        StageFailed: the language model gave not one valid task; says why its replies were refused.
    """
    catalogue = load_catalogue().tasks
    asked = cfg.instructions
    if asked.source == "catalogue":
        return Drafted({task.id: task for task in catalogue}, [], {"source": "catalogue", "kept": len(catalogue)})
    results = run_rows(_job(asked, cfg.max_error_rate), _calls(asked, catalogue, seed), execute)
    reader = ReplyReader(catalogue, asked.max_words)
    for row in results.index(["id", "reply"]):
        reader.read(row["id"], row["reply"])
    tasks = dict(list(reader.parsed.tasks.items())[: asked.tasks])
    refused = [reject(Refusal(name, "generate", {}), why) for name, why in reader.parsed.rejected]
    checks = Counter(str(row["check"]) for row in [*refused, *results.rejects])
    if not tasks:
        examples = "; ".join(f"{row['id']}: {row['reason']}" for row in [*refused, *results.rejects][:3])
        raise StageFailed(
            f"the language model in {asked.model} gave no valid task in {len(results)} replies ({dict(checks)}); use a "
            f"model that follows instructions, or raise max_new_tokens. {examples}"
        )
    metrics = {"source": "llm", "replies": len(results), "kept": len(tasks), "rejected": dict(sorted(checks.items()))}
    return Drafted(tasks, [*refused, *results.rejects], metrics)


def _calls(asked: LlmInstructions, catalogue: tuple[Task, ...], seed: int) -> list[Item]:
    """As many calls as it takes if every reply is whole. A larger number of tasks adds calls and changes none."""
    calls = range(-(-asked.tasks // asked.per_call))
    return [
        {
            "id": f"reply-{number:05d}",
            "prompt": prompt_for(number, asked.per_call, catalogue, seed),
            "seed": seed_of("instruct", seed, number),
        }
        for number in calls
    ]


def _job(asked: LlmInstructions, max_error_rate: float) -> RowJob:
    revision = check_model_folder(fetched(asked.model))
    return RowJob(
        stage="generate",
        function="instruct",
        worker=Instruct,
        arguments=(asked,),
        identity=(VERSION, revision, asked.dtype, asked.max_new_tokens, asked.temperature),
        schema=REPLY,
        pool=asked.pool,
        max_error_rate=max_error_rate,
    )
