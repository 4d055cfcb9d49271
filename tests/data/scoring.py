"""Pairs and tiny random models, in the folder formats of the true ones, that the tests of scorers share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from pydantic import TypeAdapter
from skimage import data

from lorweb.data.scorers.base import PairImages, checked
from lorweb.data.scorers.build import build_scorer, describe
from lorweb.data.scorers.entries import ScorerConfig

POOL = {"actors": 1, "cpus": 1, "gpus": 0, "batch_size": 4}
ADAPTER: TypeAdapter[Any] = TypeAdapter(ScorerConfig)
TOWER = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8, "projection_dim": 16,
}  # fmt: skip


def entry(**values: Any) -> Any:
    """A parameter entry of `filter.scorers`."""
    return ADAPTER.validate_python({"pool": POOL, **values})


def made(**values: Any) -> Any:
    """The loaded scorer of an entry."""
    return build_scorer(entry(**values), describe(entry(**values)))


def scored(pairs: list[PairImages], **values: Any) -> list[Any]:
    """The answers of the scorer of an entry, checked as in the stage."""
    facts = describe(entry(**values))
    return checked(build_scorer(entry(**values), facts)(pairs), pairs, facts)


def photos(side: int = 64) -> list[Image.Image]:
    found = [Image.fromarray(p).resize((side, side)) for p in (data.coffee(), data.chelsea(), data.astronaut())]
    assert len(found) == 3
    return found


def some_pairs(side: int = 64) -> list[PairImages]:
    """Four pairs of photos; the first two share their source, the last has no change and no caption."""
    a, b, c = photos(side)
    return [
        PairImages(a, ImageOps.invert(a), "invert the colours", "a cup of coffee", "colour"),
        PairImages(a, a.filter(ImageFilter.GaussianBlur(2)), "blur it", "a cup of coffee", "style"),
        PairImages(b, ImageOps.mirror(b), "mirror it", "a cat", "geometry"),
        PairImages(c, c, "mirror it", "", "geometry"),
    ]


def random_weights(model: Any, seed: int) -> Any:
    """Every parameter drawn from `seed`, so that tiny models tell images apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def save_clip(folder: Path, seed: int = 0) -> Path:
    """CLIPModel, its tokenizer and its image processor."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    text = {
        "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "vocab_size": len(pieces), "projection_dim": 16, "bos_token_id": len(pieces) - 2,
        "eos_token_id": len(pieces) - 1, "pad_token_id": len(pieces) - 1, "max_position_embeddings": 77,
    }  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=TOWER, projection_dim=16)
    random_weights(CLIPModel(config), seed).save_pretrained(str(folder))
    CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]).save_pretrained(str(folder))
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(str(folder))
    return folder


def save_dino(folder: Path) -> Path:
    """Dinov2Model and its processor."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=28, patch_size=14
    )
    random_weights(Dinov2Model(config), 1).save_pretrained(str(folder))
    size = {"height": 28, "width": 28}
    BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(str(folder))
    return folder


def save_classifier(folder: Path) -> Path:
    """A ViT with the labels of a detector of unsafe images."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        id2label={0: "normal", 1: "nsfw", 2: "drawn nsfw"}, label2id={"normal": 0, "nsfw": 1, "drawn nsfw": 2},
    )  # fmt: skip
    random_weights(ViTForImageClassification(config), 2).save_pretrained(str(folder))
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(str(folder))
    return folder


def save_judge(folder: Path, reply: str) -> Path:
    """A LLaVA with its processor, whose vocabulary is the lines of a reply, fitted until it says them to any pair."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    lines = reply.splitlines(keepends=True)
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "</s>", "<image>", "<a>", *lines])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Split("<a>", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    size = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{% for c in messages[0].content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}"
        "{% endif %}{% endfor %}<a>",
    )
    processor.save_pretrained(str(folder))
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, bos_token_id=None, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    config = LlavaConfig(vision_config=CLIPVisionConfig(**TOWER), text_config=text, image_token_index=2)
    model = LlavaForConditionalGeneration(config)
    images, target = photos()[:2], torch.tensor([[*range(4, len(vocabulary)), 1]])
    asked = processor(images=images, text="<image><image>any words<a>", return_tensors="pt")
    ids = torch.cat([asked["input_ids"], target], dim=1)
    labels = torch.cat([torch.full_like(asked["input_ids"], -100), target], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(input_ids=ids, pixel_values=asked["pixel_values"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02, "the reply was not learnt"
    model.eval().save_pretrained(str(folder))
    return folder


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Normal numbers that every version of numpy draws alike."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
