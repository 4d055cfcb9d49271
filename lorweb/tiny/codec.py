"""A patch codec in the place of the VAE: 8x8 patches to 16 channels, FLUX's latent shape without FLUX's weights.

The encoder is linear and closed-form (principal components of patches), so a latent depends on its own 8x8 patch alone:
encoding four images and composing their latents equals encoding the composed grid. The decoder adds to the linear
reconstruction what a convolutional network infers from the neighbouring patches.

Shape legend: B batch, H/W pixels, h/w latent cells (H/8, W/8), C latent channels (16), P values of a patch (3*8*8).
"""

from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 8


class EncoderOutput(NamedTuple):
    """What the stock pipeline reads latents from."""

    latents: Tensor


class DecoderOutput(NamedTuple):
    """Field name as in diffusers' autoencoders."""

    sample: Tensor


class PatchCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Latents of an image in [-1, 1], and back.

    Args:
        latent_channels: C, principal components kept of each patch.
        refine_channels: width, at 1/8, of the network that refines the linear reconstruction (half of it at 1/4, a
            quarter at 1/2); a multiple of 32, 0 leaves it out.
        refine_blocks: residual blocks of that network at each of the three scales.
        block_out_channels, scaling_factor, shift_factor: read by the stock pipeline; their number says 2^(n-1) = 8 px
            per latent cell, and latents need no further scaling.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        refine_channels: int,
        refine_blocks: int,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1),  # noqa: ARG002 (kept in the config)
        scaling_factor: float = 1.0,  # noqa: ARG002
        shift_factor: float = 0.0,  # noqa: ARG002
    ) -> None:
        super().__init__()
        patch_values = 3 * PATCH * PATCH
        self.register_buffer("mean_P", torch.zeros(patch_values))
        self.register_buffer("components_PC", torch.zeros(patch_values, latent_channels))
        self.register_buffer("scale_C", torch.ones(latent_channels))
        self.refine = _refiner(latent_channels, refine_channels, refine_blocks) if refine_channels else None

    @apply_forward_hook  # offload moves a model before its forward pass, which a codec has none of
    def encode(self, x_B3HW: Tensor) -> EncoderOutput:
        """Images `[B, 3, H, W]` in [-1, 1] -> latents `[B, C, H/8, W/8]`, about unit variance.

        Raises:
            ValueError: a side that is not a multiple of 8.
        """
        height, width = x_B3HW.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"image is {height}x{width} px; the codec needs sides that are multiples of {PATCH}")
        patches_BPhw = F.pixel_unshuffle(x_B3HW, PATCH)
        z_BChw = torch.einsum("bphw,pc->bchw", patches_BPhw - self.mean_P[:, None, None], self.components_PC)
        return EncoderOutput(z_BChw / self.scale_C[:, None, None])

    @apply_forward_hook
    def decode(self, z_BChw: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Latents `[B, C, h, w]` -> images `[B, 3, 8h, 8w]`, not clamped."""
        sample = self.linear_decode(z_BChw)
        if self.refine is not None:
            sample = sample + self.refine(z_BChw)
        return DecoderOutput(sample) if return_dict else (sample,)

    def linear_decode(self, z_BChw: Tensor) -> Tensor:
        """The closed-form part of `decode`: the best linear reconstruction from these components."""
        z_BChw = z_BChw * self.scale_C[:, None, None]
        patches_BPhw = torch.einsum("bchw,pc->bphw", z_BChw, self.components_PC) + self.mean_P[:, None, None]
        return F.pixel_shuffle(patches_BPhw, PATCH)

    @torch.no_grad()
    def fit(self, x_B3HW: Tensor) -> Tensor:
        """Set mean, components and scales from images in [-1, 1]; returns all eigenvalues `[P]`, largest first.

        A channel is divided by the square root of its standard deviation, half way between raw components (whose
        details drown in the noise of the flow) and whitened ones (whose details cost as much as the mean colour).
        """
        patches_MP = F.pixel_unshuffle(x_B3HW, PATCH).permute(0, 2, 3, 1).flatten(0, 2)
        mean_P = patches_MP.mean(0)
        centred_MP = (patches_MP - mean_P).double()
        variance_P, vectors_PP = torch.linalg.eigh(centred_MP.T @ centred_MP / len(centred_MP))
        variance_P, vectors_PP = variance_P.flip(0), vectors_PP.flip(1)
        channels = self.config.latent_channels
        sign_C = vectors_PP[:, :channels].sum(0).sign()  # eigenvectors are defined up to sign: fix it
        std_C = variance_P[:channels].sqrt()
        self.mean_P.copy_(mean_P)
        self.components_PC.copy_(vectors_PP[:, :channels] * sign_C)
        self.scale_C.copy_((std_C * std_C.mean()).sqrt())  # mean variance of a latent is then exactly 1
        return variance_P.float()


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x_BChw: Tensor) -> Tensor:
        y: Tensor = x_BChw + self.body(x_BChw)
        return y


def _refiner(latent_channels: int, channels: int, blocks: int) -> nn.Sequential:
    """From latents to a correction `[B, 3, 8h, 8w]` over three scales; its last layer starts at zero."""
    layers: list[nn.Module] = [nn.Conv2d(latent_channels, channels, 3, padding=1)]
    for width in (channels, channels // 2, channels // 4):
        layers += [_ResidualBlock(width) for _ in range(blocks)]
        if width > channels // 4:
            layers += [nn.Conv2d(width, 4 * (width // 2), 3, padding=1), nn.PixelShuffle(2)]
    last = nn.Conv2d(channels // 4, 3 * 4, 3, padding=1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, nn.SiLU(), last, nn.PixelShuffle(2))
