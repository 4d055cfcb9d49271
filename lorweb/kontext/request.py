"""What is asked of `AnalogyPipeline`, and what comes back.

Legend: B queries, L layers with a basis, N LoRAs per layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lorweb.kontext.denoise import Sampling, Step
from lorweb.kontext.limits import SEED, STRENGTH, check_number, check_whole

DEFAULT_SEED = 0
Preview = Callable[[int, int, list[Image.Image]], None]
"""(steps done, steps in all, what each b' of the batch is going to be), after each step."""


@dataclass(frozen=True)
class AnalogyOutput:
    """`images`: b' for each b, in order, each of b's own size. `mix_BLN`: the coefficients used, before strength; None
    where every layer asks for itself (internal queries).
    """

    images: list[Image.Image]
    mix_BLN: Tensor | None


@dataclass(frozen=True)
class Request:
    """Everything about a run but its images. One prompt, seed or mix serves all queries; a list gives one to each.

    `preview` is shown b' as it forms, at the model's own size; each look costs a pass of the decoder.
    """

    sampling: Sampling
    prompt: str | list[str] = ""
    seeds: int | torch.Generator | list[int] | list[torch.Generator] = DEFAULT_SEED
    strength: float = 1.0
    mix: Tensor | None = None  # [L, N] or [B, L, N]; None computes it from the images
    preview: Preview | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a strength or a seed outside of `lorweb.kontext.limits`."""
        check_number(self.strength, "strength", STRENGTH)
        for seed in self.seeds if isinstance(self.seeds, list) else [self.seeds]:
            if not isinstance(seed, torch.Generator):
                check_whole(seed, "seed", SEED)

    def seed_of(self, index: int) -> Any:
        """The seed or generator of one query."""
        return self.seeds[index] if isinstance(self.seeds, list) else self.seeds

    def watched(self, pictures: Callable[[Tensor], list[Image.Image]]) -> Sampling:
        """`sampling`, with the preview shown after its own watch; `pictures` decodes grids [B, C, H, W]."""
        watch, preview = self.sampling.watch, self.preview
        if preview is None:
            return self.sampling

        def show(step: Step) -> None:
            if watch is not None:
                watch(step)
            preview(step.done, step.steps, pictures(step.grids_BCHW))

        return replace(self.sampling, watch=show)


@dataclass(frozen=True)
class Answer:
    """One query answered."""

    image: Image.Image
    mix_LN: Tensor | None


def check_lengths(count: int, prompt: str | list[str], seeds: Any, mix: Tensor | None) -> None:
    """Refuse lists that do not have one entry for each of `count` queries. Raises ValueError."""
    if count == 0:
        raise ValueError("there is no query image b; give at least one")
    if mix is not None and mix.ndim not in (2, 3):
        raise ValueError(
            f"the mix has shape {tuple(mix.shape)}; give [layers, LoRAs] for all, or one such for each query"
        )
    given = {
        "prompts": len(prompt) if isinstance(prompt, list) else count,
        "seeds or generators": len(seeds) if isinstance(seeds, list) else count,
        "mixes": len(mix) if mix is not None and mix.ndim == 3 else count,
    }
    for name, found in given.items():
        if found != count:
            raise ValueError(f"{found} {name} for {count} query images; give one for all, or one for each")
