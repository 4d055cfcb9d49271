"""Requests and tiny folders that the tests of editors share."""

from pathlib import Path

import torch
from PIL import Image

from lorweb.data.catalogue import Task, load_catalogue
from lorweb.data.decode import encode_png
from lorweb.data.editors import EditRequest, SourceFacts
from lorweb.sections import Pool
from tests.kontext_tiny import drawn_image, tiny_kontext

POOL = Pool(actors=1, cpus=1, gpus=0, batch_size=4)
NUMBERS = {"pool": POOL, "tasks": ("*",), "prompt": "{instruction}", "dtype": "float32", "offload": "none", "loras": ()}
SEPIA = load_catalogue().task("colour/sepia")


def request(seed: int = 0, image: Image.Image | None = None, task: Task = SEPIA, **source: str) -> EditRequest:
    """A request to edit a drawn image."""
    facts = {"id": f"s{seed}", "origin": "file:x", "category": "photo", "caption": "a disc", **source}
    return EditRequest(
        task, SourceFacts(image=encode_png(image or drawn_image(seed, 64, 64)), **facts), "use sepia", seed
    )


def save_lora(folder: Path, scale: float = 8.0) -> Path:
    """A random LoRA of the tiny Kontext's attention, as diffusers saves it."""
    from diffusers import FluxKontextPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(7)
    transformer = tiny_kontext().transformer
    transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = {key: value * scale for key, value in get_peft_model_state_dict(transformer).items()}
    FluxKontextPipeline.save_lora_weights(str(folder), transformer_lora_layers=layers, weight_name="hand.safetensors")
    return folder / "hand.safetensors"


def save_tiny_diffusion(folder: Path) -> Path:
    """A random StableDiffusionPipeline in the folder format: 8 px per latent cell, two blocks."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests.kontext_tiny import _tokenizers

    tokenizer = _tokenizers()[0]
    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=1,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(str(folder))
    return folder
