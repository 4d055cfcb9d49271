"""Latent grids as transformer tokens, by the stock pipeline's own static methods.

Legend: B batch, C latent channels, H W latent rows and columns of the grid, L = H/2 * W/2 tokens, D = 4C,
T text tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorweb.kontext.grid import Size


@dataclass(frozen=True)
class Positions:
    """Rotary position ids of one sequence; float, the same for every row of the batch."""

    image_2L3: Tensor  # noisy tokens (0, row, column), then control tokens (1, row, column)
    text_T3: Tensor  # zeros


def pack(z_BCHW: Tensor) -> Tensor:
    """2x2 latent cells -> one token: [B, C, H, W] -> [B, H/2 * W/2, 4C], rows first."""
    from diffusers import FluxKontextPipeline

    B, C, H, W = z_BCHW.shape
    assert H % 2 == 0 and W % 2 == 0, f"latent grid {H}x{W} is not even"
    tokens_BLD: Tensor = FluxKontextPipeline._pack_latents(z_BCHW.contiguous(), B, C, H, W)
    return tokens_BLD


def unpack(tokens_BLD: Tensor, size: Size) -> Tensor:
    """The inverse of `pack`; `size` in latent cells: [B, L, 4C] -> [B, C, H, W]."""
    from diffusers import FluxKontextPipeline

    assert tokens_BLD.shape[1] * 4 == size.height * size.width, (tuple(tokens_BLD.shape), size)
    # With a scale factor of 1 the stock method takes its height and width in latent cells instead of pixels.
    z_BCHW: Tensor = FluxKontextPipeline._unpack_latents(tokens_BLD, size.height, size.width, 1)
    return z_BCHW


def positions(size: Size, text_tokens: int, like: Tensor) -> Positions:
    """Position ids for a noisy and a control grid of `size` latent cells; device and dtype of `like`."""
    from diffusers import FluxKontextPipeline

    assert size.height % 2 == 0 and size.width % 2 == 0, f"latent grid {size} is not even"
    rows, columns = size.height // 2, size.width // 2
    noisy_L3 = FluxKontextPipeline._prepare_latent_image_ids(1, rows, columns, like.device, like.dtype)
    control_L3 = noisy_L3.clone()
    control_L3[:, 0] = 1
    text_T3 = torch.zeros(text_tokens, 3, device=like.device, dtype=like.dtype)
    return Positions(torch.cat([noisy_L3, control_L3]), text_T3)
