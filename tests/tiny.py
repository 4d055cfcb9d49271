"""Tiny random models and inputs in FLUX.1-Kontext's structure, shared by the tests."""

from typing import Any

import torch
from torch import Tensor

TEXT_TOKENS = 6
TEXT_WIDTH = 24
POOLED_WIDTH = 20


def tiny_transformer(seed: int, double: int = 1, single: int = 2, heads: int = 2, head_dim: int = 16) -> Any:
    """A stock FluxTransformer2DModel with random weights, in eval mode; 64 channels and guidance, as the real one.

    14 linears per double block and 6 per single block: 26 targets by default. Every parameter is drawn from `seed`,
    norms too (a fresh model has ones there, which would hide errors).
    """
    from diffusers import FluxTransformer2DModel

    assert head_dim == 16, "axes_dims_rope below sum to 16"
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head_dim,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0  # of a norm
            parameter.copy_(centre + torch.randn(parameter.shape, generator=generator) * scale)
    return transformer.eval()


def bare_pipeline(transformer: Any) -> Any:
    """A stock FluxKontextPipeline round a transformer and nothing else: what loads and unloads LoRAs."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline

    parts = dict.fromkeys(["vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
    return FluxKontextPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), transformer=transformer, **parts)


def tiny_inputs(batch: int, tokens: int, seed: int = 0) -> dict[str, Tensor]:
    """Keyword arguments for the transformer's forward; `tokens` image tokens in one row."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    image_ids = torch.zeros(tokens, 3)
    image_ids[:, 2] = torch.arange(tokens)
    return {
        "hidden_states": normal(batch, tokens, 64),
        "encoder_hidden_states": normal(batch, TEXT_TOKENS, TEXT_WIDTH),
        "pooled_projections": normal(batch, POOLED_WIDTH),
        "timestep": torch.rand(batch, generator=generator),
        "guidance": torch.full((batch,), 2.5),
        "img_ids": image_ids,
        "txt_ids": torch.zeros(TEXT_TOKENS, 3),
    }


def grid_ids(rows: int, columns: int) -> Tensor:
    """Position ids [2 * rows * columns, 3] of a noisy grid (t = 0) and a control grid (t = 1), by loops."""
    ids = [[t, row, column] for t in (0, 1) for row in range(rows) for column in range(columns)]
    return torch.tensor(ids, dtype=torch.float32)
