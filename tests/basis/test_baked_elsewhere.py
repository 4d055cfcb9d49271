"""A baked LoRA in stock diffusers, in a fresh process that has no lorweb: the live analogy's latents and picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lorweb.basis import BasisConfig, add_basis, analogy, basis_layers
from lorweb.kontext.canvas import CanvasRule
from lorweb.kontext.codec import encode_image
from lorweb.kontext.denoise import Sampling, denoise_grids
from lorweb.kontext.grid import Size, control_grid, quadrant_of
from lorweb.kontext.load import load_base
from lorweb.kontext.pipeline import AnalogyPipeline
from lorweb.kontext.tokens import pack
from tests.basis.elsewhere import STOCK, run_elsewhere
from tests.kontext_tiny import PixelEncoder, drawn_image, save_tiny_kontext

STEPS, SEED, GUIDANCE = 4, 11, 2.5
TOLERANCE = 1e-4  # latents have a spread of about 1; the bake adds in another order, in float32
SETTINGS = BasisConfig(
    n_loras=4, rank=2, key_dim=8, query_dim=36, heads=1, activation="tanh", reduce="mean", projection="linear",
    query_mode="cat-aa'b", targets=("transformer_blocks.*", "single_transformer_blocks.*"),
)  # fmt: skip


class Live:
    """A base with a random basis, one analogy, and what it makes."""

    def __init__(self, base: str, side: int, size: float) -> None:
        """`size` of the update, beside the weights."""
        self.base, self.side = load_base(base, torch.float32, "cpu"), side
        add_basis(self.base.transformer, SETTINGS, seed=0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for layer in basis_layers(self.base.transformer).values():
                layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * size * layer.weight.std())
        rule = CanvasRule(Size(side, side), latents="grid")
        self.pipe = AnalogyPipeline(self.base, PixelEncoder(), SETTINGS, rule)
        self.images = [drawn_image(seed, side, side) for seed in (1, 2, 3)]
        self.grid = control_grid(*self.images)
        self.mix = self.pipe.mix(*self.images)

    def latents(self, mix: torch.Tensor) -> np.ndarray:
        """Tokens [1, L, D] of the target grid, as the stock pipeline returns them."""
        with torch.no_grad(), analogy(self.base.transformer, mix=mix):
            text, sampling = self.base.text([""]), Sampling(STEPS, GUIDANCE)
            made = denoise_grids(self.base, self.control(), text, [SEED], sampling)
        return pack(made).numpy()

    def control(self) -> torch.Tensor:
        """Latents of the control grid [1, C, H, W]."""
        return encode_image(self.base, [self.grid])

    def picture(self) -> np.ndarray:
        """b' [H, W, 3]."""
        drawn = self.pipe(*self.images, num_inference_steps=STEPS, guidance_scale=GUIDANCE, seed=SEED, mix=self.mix)
        return np.asarray(drawn.images[0]).astype(int)


def stock(live: Live, folder: Path, lora: Path | None, picture: bool) -> np.ndarray:
    """Latents of the stock pipeline elsewhere; its picture is left in the folder."""
    folder.mkdir(exist_ok=True)
    control = folder / ("grid.png" if picture else "control.safetensors")
    if picture:
        live.grid.save(control)
    else:
        save_file({"control": live.control()}, control)
    given: dict[str, Any] = {"steps": STEPS, "seed": SEED, "guidance": GUIDANCE, "prompt": ""}
    given |= {"tokens": live.base.defaults.max_sequence_length, "side": live.side * 2, "picture": picture}
    given |= {"lora": lora and str(lora), "base": str(live.base.folder), "control": str(control), "out": str(folder)}
    run_elsewhere(STOCK, folder, **given)
    return np.load(folder / "latents.npy")


@pytest.mark.slow
def test_with_a_stock_vae_latents_and_picture_are_those_of_the_analogy(tmp_path: Path) -> None:
    live = Live(str(save_tiny_kontext(tmp_path / "kontext")), 32, size=40)
    lora = tmp_path / "lora.safetensors"
    live.pipe.bake(live.mix).save(lora)
    latents = stock(live, tmp_path / "baked", lora, picture=True)
    expected = live.latents(live.mix)
    assert latents.shape == expected.shape and np.abs(latents - expected).max() < TOLERANCE
    drawn = quadrant_of(Image.open(tmp_path / "baked" / "picture.png"), 1, 1)
    assert np.abs(np.asarray(drawn).astype(int) - live.picture()).max() <= 1
    bare = live.latents(live.mix * 0)
    assert np.abs(expected - bare).mean() > 0.05, "the edit hardly shows"


@pytest.mark.slow
def test_on_the_packaged_base_latents_are_those_of_the_analogy(tmp_path: Path) -> None:
    """Its codec is our own class, which the other process has not: it is given latents, and returns them."""
    live = Live("tiny", 64, size=10)
    lora = tmp_path / "lora.safetensors"
    live.pipe.bake(live.mix).save(lora)
    latents = stock(live, tmp_path / "baked", lora, picture=False)
    expected = live.latents(live.mix)
    assert latents.shape == expected.shape and np.abs(latents - expected).max() < TOLERANCE
    plain = stock(live, tmp_path / "plain", None, picture=False)
    assert np.abs(plain - live.latents(live.mix * 0)).max() < TOLERANCE, "without the file it is the base"
    assert np.abs(latents - plain).mean() > 0.05, "the edit hardly shows"
