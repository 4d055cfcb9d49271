"""Bytes on disk, and of the encoded data in host memory.

Symbols: M images, U instructions, q px of a quadrant's side, C = 16 latent channels, 8 px a latent cell.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from lorweb.config import Params
from lorweb.plan.model import Model
from lorweb.plan.setting import Setting, Tokens
from lorweb.plan.state import snapshot_bytes

CELL: Final = 8  # px
LATENT_CHANNELS: Final = 16
_STORED: Final = 2  # bytes of a value, float16 or bfloat16


@dataclass(frozen=True)
class Rows:
    """How much is encoded."""

    images: int
    instructions: int  # the empty prompt included
    grids: int  # composed as pictures before they are encoded
    bound: bool  # an upper bound from the parameters, not a count


def most_rows(params: Params) -> Rows:
    """An upper bound: every task on `sources_per_task` sources, each source another image, nothing filtered out.

    Tasks are those of the catalogue that an editor takes, or as many as a language model is to invent; composed add
    instructions. Views are of all images. Given pairs and folders are not counted.
    """
    generate, assemble = params.generate, params.assemble
    tasks = _tasks(params)
    pairs = tasks * min(generate.sources_per_task * generate.seeds_per_pair, assemble.max_pairs_per_task)
    views = 1 + params.encode.views.count
    backwards = len(assemble.inverse) > 0
    return Rows(
        2 * pairs * views, 1 + (tasks * (1 + backwards)) + assemble.composed, params.encode.grid_analogies, True
    )


def text_values(model: Model, tokens: Tokens) -> int:
    """Of one instruction: T * E of the prompt and P pooled."""
    return tokens.text * model.text_width + model.pooled_width


def latent_values(quadrant: int) -> int:
    """Of one image: C * (q / 8)^2; a grid has four times as many."""
    return LATENT_CHANNELS * (quadrant // CELL) ** 2


def encoded_bytes(rows: Rows, model: Model, tokens: Tokens, params: Params) -> dict[str, int]:
    """data/encoded: M latents, features of M images, U text embeddings, and two whole pictures a grid; 2 bytes a value.

    Features are at most as many as the query has values.
    """
    one = latent_values(params.encode.quadrant)
    whole = params.encode.latents == "grid"
    return {
        "latents": _STORED * one * (0 if whole else rows.images),
        "features": _STORED * model.query_width * (rows.images + rows.grids),
        "text embeddings": _STORED * text_values(model, tokens) * rows.instructions,
        "grids": _STORED * 2 * 4 * one * rows.grids if whole else 0,
    }


def host_bytes(disk: dict[str, int]) -> int:
    """The same in the memory of every worker: as stored, but text embeddings in float32."""
    return sum(disk.values()) + disk["text embeddings"]


def checkpoint_bytes(model: Model, setting: Setting, params: Params) -> dict[str, int]:
    """Below .work/train and models/: the newest checkpoints, the best one, and the one being written; and the weights,
    once where they are trained and once where they are published.
    """
    one = snapshot_bytes(model, setting)
    train = params.train
    return {
        "one checkpoint": one,
        "checkpoints": one * (train.keep_checkpoints + (train.keep_best is not None) + 1),
        "published weights": 2 * 4 * model.trained,
    }


def _tasks(params: Params) -> int:
    generate = params.generate
    if generate.instructions.source == "llm":
        return generate.instructions.tasks
    from lorweb.data.catalogue import load_catalogue

    patterns = [pattern for editor in generate.editors for pattern in getattr(editor, "tasks", ("*",))]
    return sum(any(fnmatchcase(task.id, p) for p in patterns) for task in load_catalogue().tasks)
