"""FLUX.1-Kontext's structure at sizes a CPU can train: stock diffusers and transformers classes, nothing subclassed.

Double and single blocks, rotary positions on three axes, guidance embedding, 16 latent channels at 1/8, packed 2x2 into
64, and two text encoders in the stock pipeline's two slots. Only the numbers are small.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from lorweb.tiny.codec import PatchCodec

LATENT_CHANNELS: Final = 16
MAX_SEQUENCE_LENGTH: Final = 12  # tokens of the T5 slot; the catalogue's longest instruction is shorter
CLIP_LENGTH: Final = 20  # tokens of the CLIP slot


@dataclass(frozen=True)
class Size:
    """Width and depth of the transformer; the text encoders share one width."""

    heads: int
    double_blocks: int
    single_blocks: int
    head_dim: int = 32
    text_width: int = 64


SIZES: Final = {
    "small": Size(heads=4, double_blocks=1, single_blocks=3),
    "medium": Size(heads=5, double_blocks=1, single_blocks=4),
    "large": Size(heads=6, double_blocks=2, single_blocks=4),
}


def build(size: Size, words: Iterable[str], codec: PatchCodec, seed: int) -> Any:
    """A randomly initialised stock `FluxKontextPipeline` around the codec. `words` become whole tokens."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline

    torch.manual_seed(seed)
    words = sorted(set(words))
    clip_tokenizer, clip = _clip(size, words)
    t5_tokenizer, t5 = _t5(size, words)
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        vae=codec,
        text_encoder=clip,
        tokenizer=clip_tokenizer,
        text_encoder_2=t5,
        tokenizer_2=t5_tokenizer,
        transformer=_transformer(size),
    )


def vocabulary(texts: Iterable[str]) -> set[str]:
    """The words of the instructions, lower case."""
    return {word for text in texts for word in re.findall(r"[a-z0-9]+", text.lower())}


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """`lorweb.json`: the defaults that belong to a base and that diffusers' folder format has no place for."""
    (folder / "lorweb.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _transformer(size: Size) -> Any:
    from diffusers import FluxTransformer2DModel

    rest = (size.head_dim - 4) // 2
    model = FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=size.double_blocks,
        num_single_layers=size.single_blocks,
        attention_head_dim=size.head_dim,
        num_attention_heads=size.heads,
        joint_attention_dim=size.text_width,
        pooled_projection_dim=size.text_width,
        guidance_embeds=True,
        axes_dims_rope=(4, rest, rest),
    )
    # AdaLN-Zero: gates start shut, so that the untrained model is close to the identity on its residual stream
    for name, parameter in model.named_parameters():
        if ".norm" in name and "linear" in name:
            torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(model.proj_out.weight)
    return model


def _clip(size: Size, words: list[str]) -> tuple[Any, Any]:
    """CLIP's tokenizer over bytes, with merges that build each known word, and a two-layer text model."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for piece in [*letters, *(f"{letter}</w>" for letter in letters)]:
        vocab[piece] = len(vocab)
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
                vocab.setdefault(parts[0] + parts[1], len(vocab))
            parts = [parts[0] + parts[1], *parts[2:]]
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CLIP_LENGTH)
    config = CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=size.text_width,
        intermediate_size=2 * size.text_width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CLIP_LENGTH,
        projection_dim=size.text_width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return tokenizer, CLIPTextModel(config)


def _t5(size: Size, words: list[str]) -> tuple[Any, Any]:
    """T5's unigram tokenizer with known words as pieces (characters otherwise), and a two-layer encoder."""
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    letters = [chr(c) for c in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    pieces += [(letter, -10.0) for letter in letters]
    pieces += [(f"▁{word}", -1.0) for word in words if f"▁{word}" not in dict(pieces)]
    tokenizer = T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=MAX_SEQUENCE_LENGTH)
    config = T5Config(
        vocab_size=len(pieces),
        d_model=size.text_width,
        d_kv=size.text_width // 2,
        d_ff=2 * size.text_width,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return tokenizer, T5EncoderModel(config)
