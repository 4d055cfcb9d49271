"""What one pre-training step sees: instruction edits of single images, and of one image of a 2x2 grid.

In a grid only the bottom-right image is edited, as the instruction says; the top row holds unrelated images, of which
the right one may carry some other edit. The base learns where to edit and never that the top row could tell it how.
Without a prompt the edit is any of the corpus, as in training for guidance: what an adapter has to learn is which one.

Legend: B batch, C latent channels, h w latent cells of one quadrant.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorweb.data.catalogue import Task
from lorweb.kontext.grid import compose_latents
from lorweb.records import stable_id


@dataclass(frozen=True)
class Examples:
    """Target and control latents `[B, C, H, W]` and their prompts."""

    x0: Tensor
    y: Tensor
    prompts: list[str]


@dataclass(frozen=True)
class Corpus:
    """Latents of all pairs `[M, C, h, w]` and the number of their task `[M]`."""

    before: Tensor
    after: Tensor
    task: Tensor
    tasks: list[Task]


def draw(corpus: Corpus, batch: int, key: tuple[object, ...], caption_dropout: float) -> tuple[list[int], list[str]]:
    """Rows of the corpus and their prompts: tasks uniform, then a pair of the task, then one of its instructions."""
    source = torch.Generator().manual_seed(int(stable_id("pretrain", *key), 16) >> 1)
    rows, prompts = [], []
    present = corpus.task.unique()
    for task in present[torch.randint(len(present), (batch,), generator=source)].tolist():
        candidates = (corpus.task == task).nonzero()[:, 0]
        rows.append(int(candidates[torch.randint(len(candidates), (), generator=source)]))
        texts = corpus.tasks[task].instructions
        text = texts[int(torch.randint(len(texts), (), generator=source))]
        prompts.append("" if torch.rand((), generator=source) < caption_dropout else text)
    return rows, prompts


def single_examples(corpus: Corpus, batch: int, key: tuple[object, ...], caption_dropout: float) -> Examples:
    """Edits of one image: the control is the image, the target its edit."""
    rows, prompts = draw(corpus, batch, (*key, "single"), caption_dropout)
    return Examples(corpus.after[rows], corpus.before[rows], prompts)


def grid_examples(corpus: Corpus, batch: int, key: tuple[object, ...], caption_dropout: float) -> Examples:
    """Edits of the bottom-right image below two unrelated ones."""
    rows, prompts = draw(corpus, batch, (*key, "grid"), caption_dropout)
    left, _ = draw(corpus, batch, (*key, "left"), 1.0)
    right, _ = draw(corpus, batch, (*key, "right"), 1.0)
    top_left, top_right = corpus.before[left], corpus.after[right]
    b, b2 = corpus.before[rows], corpus.after[rows]
    return Examples(
        compose_latents(top_left, top_right, b, b2),
        compose_latents(top_left, top_right, b, b),
        prompts,
    )
