"""Images to latents and back through the base's own codec, with the stock pipeline's shift, scale and pixel ranges.

Legend: B batch, C latent channels, h w latent rows and columns (1/8 of the pixels).
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from lorweb.kontext.grid import Latents, quadrant_of, quadrant_of_latents
from lorweb.kontext.limits import NotFiniteError
from lorweb.kontext.load import Base


@torch.no_grad()
def encode_image(base: Base, images: list[Image.Image]) -> Tensor:
    """RGB images of one size, both sides multiples of 16 px -> z_BChw = (mode of the encoder - shift) * scale.

    Raises:
        ValueError: no image, different sizes, or a side that is not a multiple of 16.
    """
    sizes = sorted({image.size for image in images})
    if len(sizes) != 1:
        raise ValueError(f"images to encode together must share one size, got {sizes}; fit them to one quadrant first")
    width, height = sizes[0]
    multiple = 2 * base.cell
    if width % multiple or height % multiple:
        raise ValueError(
            f"an image of {width}x{height} px cannot be encoded; both sides must be multiples of {multiple} px"
        )
    pixels_B3HW = base.pipeline.image_processor.preprocess(images, height, width)
    z_BChw: Tensor = base.pipeline._encode_vae_image(pixels_B3HW.to(base.device, base.pipeline.vae.dtype), None)
    return z_BChw.to(base.dtype)


@torch.no_grad()
def decode_latents(base: Base, z_BChw: Tensor) -> list[Image.Image]:
    """The inverse of `encode_image`, up to the codec's loss: B RGB images of 8h x 8w px."""
    codec = base.pipeline.vae
    scaled = z_BChw.to(base.device, codec.dtype) / codec.config.scaling_factor + codec.config.shift_factor
    pixels_B3HW = codec.decode(scaled, return_dict=False)[0]
    if not bool(pixels_B3HW.isfinite().all()):
        raise NotFiniteError("the pixels that the codec gives", codec.dtype)
    images: list[Image.Image] = base.pipeline.image_processor.postprocess(pixels_B3HW, output_type="pil")
    return images


def decode_quadrants(
    base: Base, grid_BCHW: Tensor, places: Sequence[tuple[int, int]], latents: Latents
) -> list[list[Image.Image]]:
    """Quadrants of latent grids as images: for each place (row, column) B of them.

    `latents` is how the grids were made: "quadrant" decodes each quadrant by itself, "grid" the grid as a whole.
    """
    if latents == "grid":
        grids = decode_latents(base, grid_BCHW)
        return [[quadrant_of(grid, *place) for grid in grids] for place in places]
    return [decode_latents(base, quadrant_of_latents(grid_BCHW, *place).contiguous()) for place in places]
