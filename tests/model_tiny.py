"""A whole model folder of tiny random parts: base, CLIP encoder and basis, as the train stage would leave them."""

from pathlib import Path

import torch

from tests.kontext_tiny import save_tiny_kontext

QUADRANT = 32  # px


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP vision tower with random weights and its preprocessing, as save_pretrained writes them."""
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        projection_dim=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModelWithProjection(config).eval().save_pretrained(folder)
    sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**sides).save_pretrained(folder)
    return folder


def save_parts(root: Path) -> Path:
    """`kontext/` and `clip/` below root."""
    save_tiny_kontext(root / "kontext")
    save_tiny_clip(root / "clip")
    return root


def save_model(parts: Path, folder: Path, seed: int = 0, size: float = 0.5, mode: str = "cat-aa'b") -> Path:
    """A model folder on `parts`; B is random, so that the basis changes the image. Any `mode` has one width."""
    from lorweb.basis import BasisConfig, add_basis, basis_layers, checkpoint, query_dim
    from lorweb.basis.encoders import load_encoder
    from lorweb.kontext.load import load_base
    from lorweb.kontext.metadata import ModelMetadata, write_metadata

    base, encoder = load_base(str(parts / "kontext"), torch.float32, "cpu"), load_encoder(f"clip:{parts / 'clip'}")
    config = BasisConfig(
        n_loras=3, rank=2, key_dim=4, heads=1, activation="softmax", reduce="mean", projection="linear",
        query_dim=query_dim("cat-aa'b", encoder.dim), query_mode=mode,
    )  # fmt: skip
    add_basis(base.transformer, config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in basis_layers(base.transformer).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * size)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(base.transformer, folder / "basis.safetensors", {})
    write_metadata(
        folder,
        ModelMetadata(base.name, base.revision, encoder.name, encoder.revision, QUADRANT, 2, 1.0, {"seed": seed}),
    )
    return folder
