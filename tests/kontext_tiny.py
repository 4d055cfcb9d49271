"""Real architecture, tiny random weights: a FluxKontextPipeline of stock parts, built in memory in a tenth of a second.

Kept from the real geometry: 16 latent channels, 8 px per latent cell, 64 token channels, guidance, T5 and CLIP.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

TEXT_TOKENS = 16


def tiny_transformer(seed: int = 0, guidance_embeds: bool = True) -> Any:
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(seed)
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 8),
    ).eval()


def tiny_vae(seed: int = 0) -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        layers_per_block=1,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=3.0,  # latents of drawn images then have a spread of about 1, as a trained VAE's
        shift_factor=0.12,
    ).eval()


def tiny_kontext(seed: int = 0, vae: Any = None, guidance_embeds: bool = True) -> Any:
    """A FluxKontextPipeline in evaluation mode; the same seed gives the same weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip_tokenizer, t5_tokenizer = _tokenizers()
    torch.manual_seed(seed + 1)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer),
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=clip_tokenizer.bos_token_id,
            eos_token_id=clip_tokenizer.eos_token_id,
        )
    )
    t5 = T5EncoderModel(T5Config(vocab_size=len(t5_tokenizer), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4))
    pipe = FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae if vae is not None else tiny_vae(seed),
        text_encoder=clip.eval(),
        tokenizer=clip_tokenizer,
        text_encoder_2=t5.eval(),
        tokenizer_2=t5_tokenizer,
        transformer=tiny_transformer(seed, guidance_embeds),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _tokenizers() -> tuple[Any, Any]:
    """Byte-level vocabularies made here: no model file, no download."""
    from transformers import CLIPTokenizer, T5TokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    clip = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    clip.model_max_length = 77
    scored = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(33, 127))]
    return clip, T5TokenizerFast(vocab=scored, extra_ids=0)


def save_tiny_kontext(folder: Path, seed: int = 0) -> Path:
    """The folder format of every base: what save_pretrained writes, plus lorweb.json."""
    tiny_kontext(seed).save_pretrained(str(folder))
    (folder / "lorweb.json").write_text(
        f'{{"max_sequence_length": {TEXT_TOKENS}, "guidance_scale": 1.0, "num_inference_steps": 2, "quadrant": 32}}',
        encoding="utf-8",
    )
    return folder


def drawn_image(seed: int, width: int = 40, height: int = 40) -> Image.Image:
    """An RGB image with structure: two gradients and a disc, drawn from the seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    base = np.stack([x, y, 0.5 * (x + y)], axis=-1) * rng.uniform(0.4, 1.0, 3)
    cx, cy, radius = rng.uniform(0.3, 0.7, 3)
    base[(x - cx) ** 2 + (y - cy) ** 2 < (radius / 2) ** 2] = rng.uniform(0, 1, 3)
    return Image.fromarray((base * 255).astype(np.uint8))


class PixelEncoder:
    """An ImageEncoder without weights: the image at 2x2 px, so that every change of an image changes its features."""

    name, dim, revision = "pixels-2x2", 12, "1"

    def __call__(self, images: list[Image.Image]) -> torch.Tensor:
        small = [np.asarray(image.resize((2, 2), Image.Resampling.BOX), dtype=np.float32) / 255 for image in images]
        return torch.from_numpy(np.stack(small)).flatten(1)


class PatchPixelEncoder(PixelEncoder):
    """A PixelEncoder with four patches of width 3: the same pixels, averaged, times the number of levels."""

    patch_dim = 3

    def patches(self, images: list[Image.Image], levels: tuple[int, ...]) -> torch.Tensor:
        return self(images).unflatten(1, (4, 3)).mean(1) * len(levels)


def stock_call(pipeline: Any, grid: Image.Image, seed: int, **settings: Any) -> Image.Image:
    """The picture of one whole call of a stock FluxKontextPipeline on a control grid, its own size rules off."""
    picture: Image.Image = pipeline(
        image=grid,
        height=grid.height,
        width=grid.width,
        max_area=grid.height * grid.width,
        _auto_resize=False,
        generator=torch.Generator().manual_seed(seed),
        **settings,
    ).images[0]
    assert picture.size == grid.size
    return picture
