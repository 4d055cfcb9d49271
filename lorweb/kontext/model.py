"""The one call of the stock transformer, shared by training and inference.

Legend: B batch, L tokens of one grid, D token channels (64), T text tokens, E text width, P pooled width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorweb.kontext.tokens import Positions


@dataclass(frozen=True)
class TextEmbedding:
    """What the text encoders make of a batch of prompts."""

    prompt_BTE: Tensor
    pooled_BP: Tensor

    def __post_init__(self) -> None:
        assert self.prompt_BTE.ndim == 3 and self.pooled_BP.ndim == 2, (self.prompt_BTE.shape, self.pooled_BP.shape)
        assert len(self.prompt_BTE) == len(self.pooled_BP), (self.prompt_BTE.shape, self.pooled_BP.shape)

    def __len__(self) -> int:
        return len(self.pooled_BP)

    def rows(self, index: slice | list[int]) -> "TextEmbedding":
        """The embeddings of some prompts of the batch."""
        return TextEmbedding(self.prompt_BTE[index], self.pooled_BP[index])

    def expand(self, batch: int) -> "TextEmbedding":
        """One prompt for `batch` images; a batch of that size comes back as it is.

        Raises:
            ValueError: neither one prompt nor `batch` prompts.
        """
        if len(self) == batch:
            return self
        if len(self) != 1:
            raise ValueError(f"{len(self)} prompts for {batch} images; give one prompt, or one for each image")
        return TextEmbedding(self.prompt_BTE.expand(batch, -1, -1), self.pooled_BP.expand(batch, -1))

    def to(self, like: Tensor) -> "TextEmbedding":
        """Device and dtype of `like`."""
        return TextEmbedding(self.prompt_BTE.to(like), self.pooled_BP.to(like))


@dataclass(frozen=True)
class Conditions:
    """Everything the velocity depends on beside z_t and t. All batch sizes are equal."""

    control_BLD: Tensor
    text: TextEmbedding
    guidance_B: Tensor | None  # float32; None for a base without guidance embedding
    positions: Positions


def guidance_vector(transformer: Any, scale: float, like_BLD: Tensor) -> Tensor | None:
    """[B] guidance embedding input, float32, batch and device of `like_BLD`; None where the base has no such input."""
    if not transformer.config.guidance_embeds:
        return None
    return torch.full([len(like_BLD)], scale, device=like_BLD.device, dtype=torch.float32)


def velocity(transformer: Any, z_BLD: Tensor, t_B: Tensor, given: Conditions) -> Tensor:
    """v(z_t, t, y, c) of Eq. 1: [B, L, D] velocity of the noisy tokens.

    The sequence is [noisy, control]; only the noisy part of the prediction is kept. `t_B` lies in [0, 1].
    `transformer` is a stock FluxTransformer2DModel, bare, with a basis, with PEFT adapters, or wrapped for DDP.
    """
    B, L, _ = z_BLD.shape
    text = given.text
    sizes = {"t": len(t_B), "control": len(given.control_BLD), "text": len(text)}
    if given.guidance_B is not None:
        sizes["guidance"] = len(given.guidance_B)
    assert all(size == B for size in sizes.values()), f"batch {B}, but {sizes}"
    assert given.control_BLD.shape == z_BLD.shape, f"grids differ: {given.control_BLD.shape}, {z_BLD.shape}"
    assert len(given.positions.image_2L3) == 2 * L and len(given.positions.text_T3) == text.prompt_BTE.shape[1]
    prediction: Tensor = transformer(
        hidden_states=torch.cat([z_BLD, given.control_BLD], dim=1),
        timestep=t_B,
        guidance=given.guidance_B,
        pooled_projections=text.pooled_BP,
        encoder_hidden_states=text.prompt_BTE,
        txt_ids=given.positions.text_T3,
        img_ids=given.positions.image_2L3,
        return_dict=False,
    )[0]
    return prediction[:, :L]
